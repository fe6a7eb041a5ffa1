"""Whether small components are left out of a checkpoint's masks: where validation images say so, and nowhere else."""

from collections.abc import Sequence

import numpy as np

from service.training.scores import ImageLevels
from service.training.threshold import STANDARD_ERRORS

LEAST_COMPONENT = 0.5
"""Of the largest component's area: one more lesion of about that size stays, a freckle or a stain does not."""

FEWEST_IMAGES = 20
"""Fewer validation images do not tell how often a picture shows two things of a kind."""


def is_clear_gain(all_of_them: Sequence[ImageLevels], main: Sequence[ImageLevels], threshold: float) -> bool:
    """Return whether the mean IoU of the same images' masks rises without their small components, and not by chance.

    By chance it rises by up to two standard errors of the difference, image by image.
    """
    pairs = zip(all_of_them, main, strict=True)
    gains = np.array([after.agreement(threshold).iou - before.agreement(threshold).iou for before, after in pairs])
    if len(gains) < FEWEST_IMAGES:
        return False
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() > STANDARD_ERRORS * error)

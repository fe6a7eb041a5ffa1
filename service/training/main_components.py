"""Whether small components are left out of a checkpoint's masks: only where validation images say so."""

from collections.abc import Sequence

import numpy as np

from service.training.scores import ImageLevels
from service.training.threshold import STANDARD_ERRORS

LEAST_COMPONENT = 0.5
"""Share of the largest component's area: another lesion of about its size stays, a freckle or a stain does not."""

FEWEST_IMAGES = 20
"""Fewer validation images cannot tell how often a picture shows two things of a kind."""


def is_clear_gain(all_of_them: Sequence[ImageLevels], main: Sequence[ImageLevels], threshold: float) -> bool:
    """Return whether the mean IoU of the same images rises without small components, by more than chance.

    Up to two standard errors of the difference, image by image, count as chance.
    """
    pairs = zip(all_of_them, main, strict=True)
    gains = np.array([after.agreement(threshold).iou - before.agreement(threshold).iou for before, after in pairs])
    if len(gains) < FEWEST_IMAGES:
        return False
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() > STANDARD_ERRORS * error)

"""The threshold of a checkpoint: chosen on validation images, and 0.5 where they do not say otherwise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.training.scores import ImageLevels

USUAL = 128
"""The lowest level that 0.5 takes as foreground."""

CANDIDATES = tuple(range(64, 193, 4))
"""Lowest levels of foreground, a quarter to three quarters of the range. USUAL is one of them."""

STANDARD_ERRORS = 2.0


def choose_threshold(images: Sequence[ImageLevels]) -> float:
    """Return the threshold, about 0.25 to 0.75, for `images`, at least one.

    It is the candidate nearest to 0.5 whose mean IoU is not clearly below that of the best one: at most two standard
    errors of the difference, image by image. A few images, or a flat optimum, therefore leave it at 0.5; a bias of the
    network that most images share moves it. (On the ten images of STARE that do not train, the threshold that is best
    on any four did worse on the other six than 0.5 did, by up to 0.04 IoU; one chosen like this, by 0.006 at most.)
    """
    ious = np.array([[image.agreement(threshold_from(level)).iou for level in CANDIDATES] for image in images])
    best = int(ious.mean(axis=0).argmax())
    as_good = _as_good(ious, ious[:, best])
    return threshold_from(min(np.array(CANDIDATES)[as_good].tolist(), key=lambda level: abs(level - USUAL)))


def threshold_from(level: int) -> float:
    """Return the threshold that lies half way between `level`, which it takes as foreground, and the one below."""
    return round((level - 0.5) / 255, 4)


def _as_good(ious: NDArray[np.float64], best: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which columns of `ious` (images, candidates) are not clearly worse than the column `best` (images,)."""
    if len(ious) == 1:
        return np.ones(ious.shape[1], np.bool_)  # one image has no spread to tell chance from
    short = best[:, None] - ious
    error = short.std(axis=0, ddof=1) / np.sqrt(len(ious))
    as_good: NDArray[np.bool_] = short.mean(axis=0) <= STANDARD_ERRORS * error
    return as_good

"""How far to trust a probability map: an estimate of IoU, learnt on validation images, that starts as the plain one."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.engine.quality import corrected_iou, decidedness, plain_iou
from service.store.card import IouEstimate
from service.training.scores import ImageLevels

Weights = NDArray[np.float64]
"""float64 (3,): offset, weight of the plain IoU, weight of the decidedness."""

PLAIN: Weights = np.array([0.0, 1.0, 0.0])
LOWEST: Weights = np.array([-4.0, 0.0, 0.0])
HIGHEST: Weights = np.array([4.0, 4.0, 4.0])
"""The bounds of the card's fields."""

PULL = 1.0
"""How strongly the weights are pulled towards PLAIN, against the sum of the images' errors: much with four images,
little with two hundred. With 0.3 or 10 instead, weights learnt on four fundus or skin images erred more on other
images."""

SMALL = 0.01
"""Absolute errors below this are smoothed into squares, so that the search does not stop at a kink."""

FIRST_STEP, LAST_STEP = 0.5, 0.001
STEPS: Weights = np.array([step for step in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(step)])


def fit_estimate(images: Sequence[ImageLevels], threshold: float) -> IouEstimate:
    """Return the estimate with the least absolute error on `images`, at least one, whose masks begin at `threshold`.

    It is found by pattern search, which needs no derivative, keeps within the bounds, and gives the same answer on
    every machine.
    """
    plain = np.array([plain_iou(image.pixels, threshold) for image in images])
    decided = np.array([decidedness(image.pixels) for image in images])
    true = np.array([image.agreement(threshold).iou for image in images])

    def loss(weights: Weights) -> float:
        error = corrected_iou(plain, decided, _estimate(weights)) - true
        return float(np.hypot(error, SMALL).sum() + PULL * np.square(weights - PLAIN).sum())

    best, least, step = PLAIN, loss(PLAIN), FIRST_STEP
    while step >= LAST_STEP:
        tried = np.clip(best + step * STEPS, LOWEST, HIGHEST)
        losses = [loss(weights) for weights in tried]
        if min(losses) < least:
            best, least = tried[int(np.argmin(losses))], min(losses)
        else:
            step /= 2
    return _estimate(best)


def _estimate(weights: Weights) -> IouEstimate:
    offset, plain, decided = (round(float(weight), 4) for weight in weights)
    return IouEstimate(offset=offset, plain=plain, decided=decided)

"""Temperature scaling (Guo et al., ICML 2017): one number that makes probabilities mean what they say."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from service.engine.torch_engine import Predictor
from service.imaging.placement import Image, Mask, cut, mask_to_canvas, place, tiles, to_canvas
from service.imaging.policy import InputPolicy

PIXELS_AN_IMAGE = 20_000
LOWEST, HIGHEST = 0.25, 4.0


def fit_temperature(logits: NDArray[np.float64], masks: NDArray[np.bool_]) -> float:
    """Return the temperature, 0.25 to 4, with the least cross entropy of `logits` (n,) divided by it against `masks`.

    The cross entropy is convex in 1 / temperature, so a golden-section search finds its one minimum.
    """
    ratio = (np.sqrt(5) - 1) / 2
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _cross_entropy(logits * left, masks) < _cross_entropy(logits * right, masks):
            high = right
        else:
            low = left
    return float(np.round(2 / (low + high), 4))


def sample_logits(
    pairs: Iterable[tuple[Image, Mask]], predictor: Predictor, policy: InputPolicy, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits and masks, both (n,), of some 20,000 pixels an image, drawn with `seed`, on the network's grid."""
    random = np.random.default_rng(seed)
    logits, masks = [], []
    for image, mask in pairs:
        placement = place(mask.shape, policy)
        corners = tiles(placement, policy)
        canvas_mask = mask_to_canvas(mask, placement)
        for (y, x), tile in zip(corners, cut(to_canvas(image, placement), corners, policy), strict=True):
            of_tile = predictor.logits([tile])[0]
            height, width = of_tile.shape
            chosen = random.choice(of_tile.size, min(of_tile.size, PIXELS_AN_IMAGE // len(corners) + 1), replace=False)
            logits.append(of_tile.ravel()[chosen].astype(np.float64))
            masks.append(canvas_mask[y : y + height, x : x + width].ravel()[chosen] > 0)
    return np.concatenate(logits), np.concatenate(masks)


def _cross_entropy(logits: NDArray[np.float64], masks: NDArray[np.bool_]) -> float:
    return float((np.logaddexp(0, logits) - logits * masks).mean())

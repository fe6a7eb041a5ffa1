"""Scoring a network on images with masks: one path for validation, test, `alnet evaluate` and the published engine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.quality import Agreement, Probability, agreement, expected_iou, foreground
from service.imaging.placement import Image, Mask, prepare, restore
from service.imaging.policy import InputPolicy

Predict = Callable[[Sequence[NDArray[np.uint8]]], list[NDArray[np.uint8]]]
"""What an engine does: tiles of uint8 (h, w, 3) to probabilities of uint8 (h, w)."""

TILES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image's agreement with its reference, and the IoU that was to be expected without one."""

    name: str
    agreement: Agreement
    expected_iou: float


def probability_of(image: Image, predict: Predict, policy: InputPolicy) -> Probability:
    """Return the probability map, uint8 (H, W), of one image of uint8 (H, W, 3), on its own grid."""
    placement, tiles = prepare(image, policy)
    maps = [map_ for i in range(0, len(tiles), TILES_AT_ONCE) for map_ in predict(tiles[i : i + TILES_AT_ONCE])]
    return restore(maps, placement, policy)


def score(
    named: Iterable[tuple[str, tuple[Image, Mask]]], predict: Predict, policy: InputPolicy, threshold: float
) -> list[ImageScore]:
    """Return one score an image, in order; masks are (H, W) with foreground above 0."""
    scores = []
    for name, (image, reference) in named:
        probability = probability_of(image, predict, policy)
        found = agreement(foreground(probability, threshold), reference > 0)
        scores.append(ImageScore(name, found, expected_iou(probability, threshold)))
    return scores


def mean_and_std(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and population standard deviation, as the paper's tables give them."""
    array = np.fromiter(values, float)
    return float(array.mean()), float(array.std())

"""Scoring a network on images with masks: one path for validation, test, `alnet evaluate` and the published engine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.quality import (
    LEVELS,
    Agreement,
    LevelCounts,
    MaskRule,
    Probability,
    agreement_of_counts,
    expected_iou,
    level_counts,
    lowest_level,
)
from service.imaging.placement import Image, Mask, prepare, restore
from service.imaging.policy import InputPolicy
from service.store.card import IouEstimate

Predict = Callable[[Sequence[NDArray[np.uint8]]], list[NDArray[np.uint8]]]
"""What an engine does: tiles of uint8 (h, w, 3) to probabilities of uint8 (h, w)."""

Named = Iterable[tuple[str, tuple[Image, Mask]]]
"""Images with their masks, by name; masks are (H, W) with foreground above 0."""

TILES_AT_ONCE = 4
FLIPS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 1))
"""For each way of mirroring a tile, the axes to flip."""
BINS = 15


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image's agreement with its reference, and the IoU that is expected without one."""

    name: str
    agreement: Agreement
    expected_iou: float


@dataclass(frozen=True, slots=True, eq=False)
class ImageLevels:
    """How many of an image's pixels have each level, and how many of those are foreground in its reference.

    These counts give the image's scores at every threshold.
    """

    name: str
    pixels: LevelCounts
    foreground: LevelCounts

    def agreement(self, threshold: float) -> Agreement:
        """Compare the mask that begins at `threshold` (0 to 1) with the reference."""
        lowest = lowest_level(threshold)
        return agreement_of_counts(
            both=int(self.foreground[lowest:].sum()),
            in_mask=int(self.pixels[lowest:].sum()),
            in_reference=int(self.foreground.sum()),
            pixels=int(self.pixels.sum()),
        )


def probability_of(image: Image, predict: Predict, policy: InputPolicy) -> Probability:
    """Return the probability map, uint8 (H, W), of one image of uint8 (H, W, 3), on its own grid."""
    placement, tiles = prepare(image, policy)
    maps = [map_ for i in range(0, len(tiles), TILES_AT_ONCE) for map_ in predict(tiles[i : i + TILES_AT_ONCE])]
    return restore(maps, placement, policy)


def count_levels(
    named: Named, predict: Predict, policy: InputPolicy, rule: MaskRule | None = None
) -> list[ImageLevels]:
    """Return the levels of each image, in order, on its own grid; pixels that a `rule` leaves out have level 0."""
    counted = []
    for name, (image, reference) in named:
        probability = probability_of(image, predict, policy)
        if rule is not None:
            probability, _ = rule.kept(probability)
        counted.append(ImageLevels(name, level_counts(probability), level_counts(probability[reference > 0])))
    return counted


def averaged_over_flips(predict: Predict) -> Predict:
    """Return a predictor that averages `predict` over a tile and its three flips, at four times the cost."""

    def averaged(tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        total = np.zeros((), np.uint16)
        for axes in FLIPS:
            maps = predict([np.ascontiguousarray(np.flip(tile, axes)) for tile in tiles])
            total = total + np.stack([np.flip(found, axes) for found in maps]).astype(np.uint16)
        return list(np.round(total / len(FLIPS)).astype(np.uint8))

    return averaged


def score(
    named: Named, predict: Predict, policy: InputPolicy, rule: MaskRule, estimate: IouEstimate | None = None
) -> list[ImageScore]:
    """Return one score per image, in order; `estimate` is a card's `expected_iou`."""
    return scores_of(count_levels(named, predict, policy, rule), rule.threshold, estimate)


def scores_of(images: Iterable[ImageLevels], threshold: float, estimate: IouEstimate | None = None) -> list[ImageScore]:
    """Return what `score` does, for images that are counted already."""
    return [
        ImageScore(image.name, image.agreement(threshold), expected_iou(image.pixels, threshold, estimate))
        for image in images
    ]


def expected_iou_error(scores: Iterable[ImageScore]) -> float:
    """Return the mean absolute error of the expected IoU."""
    return mean_and_std(abs(score.expected_iou - score.agreement.iou) for score in scores)[0]


def calibration_error(images: Sequence[ImageLevels], bins: int = BINS) -> float:
    """Return the expected calibration error of all images' pixels together; see `service.store.card.CalibrationError`.

    Each of 15 bins holds 17 levels, the last one 18.
    """
    pixels = np.sum([image.pixels for image in images], axis=0)
    foreground = np.sum([image.foreground for image in images], axis=0)
    bin_of = np.minimum(np.arange(256) * bins // 255, bins - 1)
    gaps = np.bincount(bin_of, weights=foreground - pixels * LEVELS, minlength=bins)
    return float(np.abs(gaps).sum() / pixels.sum())


def mean_and_std(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and population standard deviation, as the paper's tables give them."""
    array = np.fromiter(values, float)
    return float(array.mean()), float(array.std())

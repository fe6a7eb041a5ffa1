"""Which part of a map is mask, and how good it is: measured against a reference, or expected from probabilities.

What is expected follows from how many pixels have each of a map's 256 levels, so one pass over the pixels is enough.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.components import LeftOut, keep_main
from service.store.card import Card, IouEstimate

Probability = NDArray[np.uint8]
"""uint8 (H, W): 255 × the calibrated probability of foreground, rounded."""

LEVELS = np.arange(256) / 255
"""The probability, float64, that each uint8 level stands for."""

LevelCounts = NDArray[np.int64]
"""int64 (256,): how many pixels have each level of a Probability."""

UNDECIDED_FROM, DECIDED_FROM = 0.25, 0.75
LEAST_DECIDED, MOST_DECIDED = 0.01, 0.99
"""A decidedness is clipped to these: beyond them its logit would outweigh everything else."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Scores of a mask against a reference, each 0 to 1 (AL-Net paper, Eqs. 7 and 8; Dice is 2·TP / (2·TP + FP + FN)).

    Where both are empty, IoU and Dice are 1: the mask says exactly what the reference says.
    """

    iou: float
    accuracy: float
    dice: float


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Which part of a probability map is mask: all that is at least `threshold`, or the main components of that.

    A component is left out if its area is less than `least_component` of the largest one's; see
    `service.imaging.components`.
    """

    threshold: float
    least_component: float = 0.0

    @classmethod
    def of(cls, card: Card, threshold: float | None = None, *, all_components: bool = False) -> Self:
        """Return a card's rule, with another threshold or with all components kept if that is asked for."""
        return cls(
            threshold=card.threshold if threshold is None else threshold,
            least_component=0.0 if all_components else card.least_component,
        )

    def kept(self, probability: Probability) -> tuple[Probability, LeftOut]:
        """Return the map (H, W) with 0 where components are left out (itself if none are), and what was left out."""
        return keep_main(probability, lowest_level(self.threshold), self.least_component)

    def mask(self, probability: Probability) -> NDArray[np.bool_]:
        """Return the mask (H, W) of a map."""
        return foreground(self.kept(probability)[0], self.threshold)


def foreground(probability: Probability, threshold: float) -> NDArray[np.bool_]:
    """Return the pixels (H, W) whose probability is at least `threshold` (0 to 1)."""
    return probability >= lowest_level(threshold)


def lowest_level(threshold: float) -> int:
    """Return the least uint8 level that stands for a probability of at least `threshold`; 256 if none does."""
    return int(np.searchsorted(LEVELS, threshold))


def agreement(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Agreement:
    """Compare a mask with a reference of the same shape (H, W)."""
    return agreement_of_counts(
        both=int(np.count_nonzero(mask & reference)),
        in_mask=int(np.count_nonzero(mask)),
        in_reference=int(np.count_nonzero(reference)),
        pixels=mask.size,
    )


def agreement_of_counts(*, both: int, in_mask: int, in_reference: int, pixels: int) -> Agreement:
    """Return a mask's scores, from how many of the image's `pixels` are in the mask, in the reference, and in both."""
    either = in_mask + in_reference - both
    return Agreement(
        iou=both / either if either else 1.0,
        accuracy=1.0 - (either - both) / pixels,
        dice=2 * both / (in_mask + in_reference) if either else 1.0,
    )


def level_counts(probability: Probability) -> LevelCounts:
    """Return how many of the pixels (H, W) have each level."""
    counts = PillowImage.fromarray(np.ascontiguousarray(probability)).histogram()  # twice as quick as np.bincount
    return np.array(counts, np.int64)


def expected_iou(counts: LevelCounts, threshold: float, estimate: IouEstimate | None = None) -> float:
    """Return the IoU, 0 to 1, to expect of the mask from `threshold` up; the plain one if there is no `estimate`.

    The plain one follows from the probabilities alone and errs as they do, image by image. A checkpoint's `estimate`,
    learnt on its validation images, corrects that as far as the map shows it
    (docs/adr/0010-expected-iou-learns-from-validation-images.md).

    An empty mask has an IoU of 1 if there is nothing to find, and 0 otherwise. So the probability that there is nothing
    is returned: Π (1 − p), as if pixels were independent.
    """
    lowest = lowest_level(threshold)
    if not counts[lowest:].any():
        return float(np.exp(counts[:lowest] @ np.log1p(-LEVELS[:lowest])))
    plain = plain_iou(counts, threshold)
    if estimate is None:
        return plain
    return float(corrected_iou(np.array(plain), np.array(decidedness(counts)), estimate))


def plain_iou(counts: LevelCounts, threshold: float) -> float:
    """Return the IoU, 0 to 1, that the probabilities themselves predict for the mask from `threshold` up.

    For a mask M it is Σ_M p / (|M| + Σ_outside p): the expected intersection over the expected union. If all
    probabilities are 0, it is 1: an empty mask of an empty image.
    """
    mass = counts * LEVELS
    lowest = lowest_level(threshold)
    union = float(counts[lowest:].sum() + mass[:lowest].sum())
    return float(mass[lowest:].sum()) / union if union else 1.0


def decidedness(counts: LevelCounts) -> float:
    """Return how sharply a map tells foreground from background, 0 to 1, whatever the threshold.

    Of the pixels with a probability of at least 1/4, it is the share that has at least 3/4; 0 if there are none.
    """
    likely = int(counts[lowest_level(UNDECIDED_FROM) :].sum())
    return int(counts[lowest_level(DECIDED_FROM) :].sum()) / likely if likely else 0.0


def corrected_iou(
    plain: NDArray[np.float64], decided: NDArray[np.float64], estimate: IouEstimate
) -> NDArray[np.float64]:
    """Return IoUs corrected by `estimate`, from plain ones and decidedness: float64 of one shape, each 0 to 1.

    A plain 0 or 1 stays as it is: only certainty gives it.
    """
    certain = (plain <= 0) | (plain >= 1)
    logit = (
        estimate.offset
        + estimate.plain * _logit(np.where(certain, 0.5, plain))
        + estimate.decided * _logit(np.clip(decided, LEAST_DECIDED, MOST_DECIDED))
    )
    return np.where(certain, plain, 1 / (1 + np.exp(-logit)))


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(share) - np.log1p(-share)

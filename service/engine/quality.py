"""How good a mask is: measured against a reference, or expected from the probabilities alone. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probability = NDArray[np.uint8]
"""uint8 (H, W): 255 × the calibrated probability of foreground, rounded."""

LEVELS = np.arange(256) / 255
"""The probability, float64, that each uint8 level stands for."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Scores of a mask against a reference, each 0 to 1 (AL-Net paper, Eqs. 7 and 8; Dice is 2·TP / (2·TP + FP + FN)).

    Where both are empty, IoU and Dice are 1: the mask says exactly what the reference says.
    """

    iou: float
    accuracy: float
    dice: float


def foreground(probability: Probability, threshold: float) -> NDArray[np.bool_]:
    """Return the pixels (H, W) whose probability is at least `threshold` (0 to 1)."""
    return probability >= lowest_level(threshold)


def lowest_level(threshold: float) -> int:
    """Return the least uint8 level that stands for a probability of at least `threshold`; 256 if none does."""
    return int(np.searchsorted(LEVELS, threshold))


def agreement(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Agreement:
    """Compare a mask with a reference of the same shape (H, W)."""
    both = int(np.count_nonzero(mask & reference))
    in_mask, in_reference = int(np.count_nonzero(mask)), int(np.count_nonzero(reference))
    either = in_mask + in_reference - both
    return Agreement(
        iou=both / either if either else 1.0,
        accuracy=1.0 - (either - both) / mask.size,
        dice=2 * both / (in_mask + in_reference) if either else 1.0,
    )


def expected_iou(probability: Probability, threshold: float) -> float:
    """Return the IoU to expect of `foreground(probability, threshold)`, 0 to 1, if the probabilities are calibrated.

    For a mask M it is Σ_M p / (|M| + Σ_outside p): the expected intersection over the expected union. Where no pixel
    has any probability at all, it is 1: an empty mask of an empty image.
    """
    counts = np.bincount(probability.ravel(), minlength=256)
    mass = counts * LEVELS
    lowest = lowest_level(threshold)
    union = float(counts[lowest:].sum() + mass[:lowest].sum())
    return float(mass[lowest:].sum()) / union if union else 1.0

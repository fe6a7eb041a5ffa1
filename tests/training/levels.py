"""Images by their levels, as a network with a known fault would leave them."""

import numpy as np
from numpy.typing import NDArray

from service.engine.quality import level_counts
from service.training.scores import ImageLevels


def levels_of(probability: NDArray[np.uint8], reference: NDArray[np.bool_], name: str = "one") -> ImageLevels:
    return ImageLevels(name, level_counts(probability), level_counts(probability[reference]))


def shifted(seed: int, shift: float) -> ImageLevels:
    """Return an image whose logits would be calibrated but for `shift`: what moves the best threshold moves with it."""
    random = np.random.default_rng(seed)
    logits = random.choice([-4.0, 4.0], (64, 64), p=[0.7, 0.3]) + random.normal(0, random.uniform(1, 3), (64, 64))
    reference = random.random((64, 64)) < 1 / (1 + np.exp(-logits))
    return levels_of(np.rint(255 / (1 + np.exp(-logits - shift))).astype(np.uint8), reference, f"image {seed}")

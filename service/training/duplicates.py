"""Pictures so alike that one on each side of a split would be a leak: the same lesion, photographed or cut twice."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from service.training.dataset import load
from service.training.pairs import Pair

SIDE = 16
ALIKE = 0.98


def near_duplicates(pairs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """Yield the names of each two pairs whose images are alike."""
    descriptors = np.stack([_descriptor(load(pair)[0]) for pair in pairs])
    for i in range(len(pairs)):
        for j in np.flatnonzero(descriptors[i + 1 :] @ descriptors[i] >= ALIKE):
            yield pairs[i].name, pairs[i + 1 + int(j)].name


def _descriptor(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = Pillow.fromarray(image).convert("L").resize((SIDE, SIDE), Pillow.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)

"""Dim images in full range: little else that a network has not seen costs it as much, and nothing is mended as easily.

A photograph taken with too little light, a slice of another microscope that uses a part of the levels: the picture is
there, but far from all that the network was trained on.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

SAMPLES = 128
"""At least so many rows and columns are looked at, and all of a smaller image."""

SPECKS_SHARE = 0.005
"""So much of an image, at either end, does not count to what it fills: hot and dead pixels, a glint."""

HALF = 255 / 2
LEAST_LEVELS = 12
"""What fills less is not stretched: there is hardly a picture in it."""


def in_full_range(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), as it is, unless it fills less than half of the range: then in all of it.

    Of a grey picture what lies between its darkest and its lightest levels counts, as where there are more than 8 bits,
    and becomes 0 to 255. Colours are made lighter alone, all alike, as more light would have made them: pictures of
    pale skin fill less than half of the range, too, and are not dim.
    """
    low, high = filled(image)
    if high - low >= HALF:
        return image
    if not _is_grey(image):
        low = 0
    return _stretched(image, low, high) if LEAST_LEVELS <= high - low < HALF else image


def filled(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the darkest and the lightest level of an image, of all its channels and but for specks."""
    seen = _thinned(image)
    counts = np.bincount(seen.reshape(-1), minlength=256).cumsum()
    specks = SPECKS_SHARE * seen.size
    low, high = np.searchsorted(counts, (specks, seen.size - specks))
    return int(low), int(high)


def _is_grey(image: NDArray[np.uint8]) -> bool:
    seen = _thinned(image)
    return bool((seen == seen[..., :1]).all())


def _thinned(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[:: max(1, image.shape[0] // SAMPLES), :: max(1, image.shape[1] // SAMPLES)]


def _stretched(image: NDArray[np.uint8], low: int, high: int) -> NDArray[np.uint8]:
    """Return the image with `low` at 0 and `high` at 255. Pillow needs no index of 8 bytes for each value."""
    table = np.rint(np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255)).astype(int).tolist()
    return np.asarray(PillowImage.fromarray(np.ascontiguousarray(image)).point(table * 3), np.uint8)

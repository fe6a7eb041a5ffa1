"""Dim images in full range: little else that a network has not seen costs it as much, and nothing is mended as easily.

A photograph taken with too little light, a slice of another microscope that uses a part of the levels: the picture is
there, but far from all that the network was trained on.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Range = tuple[int, int]
"""The levels that become 0 and 255."""

AS_THEY_ARE: Range = (0, 255)

SAMPLES = 128
"""At least so many rows and columns are looked at, and all of a smaller image."""

SPECKS_SHARE = 0.005
"""So much of an image, at either end, does not count to what it fills: hot and dead pixels, a glint."""

ROWS_AT_ONCE = 64
"""Rows that are stretched at a time: Pillow copies what it is given, and what it gives."""

HALF = 255 / 2
LEAST_LEVELS = 12
"""What fills less is not stretched: there is hardly a picture in it."""


def dim_range(image: NDArray[np.uint8], *, also_flat: bool) -> Range:
    """Return the levels of a dim image, uint8 (H, W, 3), that are to become 0 and 255, all channels alike.

    It is dim if nothing in it is lighter than half: then it is made lighter, as more light would have made it. With
    `also_flat` it is, too, if from its darkest to its lightest it fills less than half of the range: then it is
    stretched from both ends. All others stay as they are.
    """
    low, high = filled(image)
    if not also_flat:
        low = 0
    return (low, high) if LEAST_LEVELS <= high - low < HALF else AS_THEY_ARE


def filled(image: NDArray[np.uint8]) -> Range:
    """Return the darkest and the lightest level of an image, of all its channels and but for specks."""
    seen = image[:: max(1, image.shape[0] // SAMPLES), :: max(1, image.shape[1] // SAMPLES)]
    counts = np.bincount(seen.reshape(-1), minlength=256).cumsum()
    specks = SPECKS_SHARE * seen.size
    low, high = np.searchsorted(counts, (specks, seen.size - specks))
    return int(low), int(high)


def in_full_range(image: NDArray[np.uint8], levels: Range) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), whose `levels` have become 0 and 255; what lies outside of them is cut off."""
    if levels == AS_THEY_ARE:
        return image
    low, high = levels
    table = np.rint(np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255)).astype(int).tolist()
    stretched = np.empty_like(image, order="C")
    for top in range(0, len(image), ROWS_AT_ONCE):
        rows = np.ascontiguousarray(image[top : top + ROWS_AT_ONCE])
        stretched[top : top + ROWS_AT_ONCE] = np.asarray(PillowImage.fromarray(rows).point(table * 3))
    return stretched

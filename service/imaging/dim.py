"""Bring dim images to full range: few unfamiliar things harm a network as much, and none is mended as easily.

A photograph may be taken with too little light, or a slice by a microscope that uses only a part of the levels. The
picture is there, but far from everything that the network was trained on.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Range = tuple[int, int]
"""The levels that become 0 and 255."""

AS_THEY_ARE: Range = (0, 255)

SAMPLES = 128
"""Least rows and columns that are looked at; a smaller image is looked at whole."""

SPECKS_SHARE = 0.005
"""Share of an image's values, at either end, that does not count for the range it fills: bad pixels, a glint."""

ROWS_AT_ONCE = 64
"""Rows that are stretched at a time: Pillow copies its input and its output."""

HALF = 255 / 2
LEAST_LEVELS = 12
"""An image that fills fewer levels is not stretched: there is hardly a picture in it."""


def dim_range(image: NDArray[np.uint8], *, also_flat: bool) -> Range:
    """Return the levels of a dim image, uint8 (H, W, 3), that are to become 0 and 255, in all channels alike.

    An image is dim if nothing in it is as light as half: it is made lighter, as more light would have made it. With
    `also_flat`, an image is also dim if its darkest and lightest levels are less than half of the range apart: it is
    stretched from both ends. All other images stay as they are.
    """
    low, high = filled(image)
    if not also_flat:
        low = 0
    return (low, high) if LEAST_LEVELS <= high - low < HALF else AS_THEY_ARE


def filled(image: NDArray[np.uint8]) -> Range:
    """Return the darkest and the lightest level of an image over all its channels, except for specks."""
    seen = image[:: max(1, image.shape[0] // SAMPLES), :: max(1, image.shape[1] // SAMPLES)]
    counts = np.bincount(seen.reshape(-1), minlength=256).cumsum()
    specks = SPECKS_SHARE * seen.size
    low, high = np.searchsorted(counts, (specks, seen.size - specks))
    return int(low), int(high)


def in_full_range(image: NDArray[np.uint8], levels: Range) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), with its `levels` brought to 0 and 255; levels outside of them are clipped."""
    if levels == AS_THEY_ARE:
        return image
    low, high = levels
    table = np.rint(np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255)).astype(int).tolist()
    stretched = np.empty_like(image, order="C")
    for top in range(0, len(image), ROWS_AT_ONCE):
        rows = np.ascontiguousarray(image[top : top + ROWS_AT_ONCE])
        stretched[top : top + ROWS_AT_ONCE] = np.asarray(PillowImage.fromarray(rows).point(table * 3))
    return stretched

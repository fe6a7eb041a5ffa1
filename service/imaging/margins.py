"""Where the picture is in an image: cameras surround it with dark margins, some wider than the picture itself."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(y, x, height, width) of a part of an image, in pixels."""

SAMPLES = 256
"""At least so many rows and columns are looked at, and all of a smaller image."""

BRIGHT_PERCENTILE = 95
DARK_SHARE = 0.15
"""A pixel is dark if its brightest channel is below this share of what the brightest pixels of the image have."""

LIT_SHARE = 0.02
"""A row or column belongs to the margins if fewer of its pixels than this are lit: dust and letters may be."""

SMALLEST_SHARE = 0.25
"""Of either side: what is smaller is no picture within margins but something bright in a dark image."""

WORTHWHILE = 0.97
"""If this much of both sides is left, nothing is cut off: it would only blur."""


def inside_margins(image: NDArray[np.uint8], of: tuple[int, int] | None = None) -> Box:
    """Return the smallest box of an image, uint8 (H, W, 3), outside of which all is dark.

    That is all of the image if there are no margins, or if what is left would be too small to be the picture, or nearly
    all: of the image, or `of` one of this (height, width) that it was cut out of.
    """
    height, width = image.shape[:2]
    whole = (0, 0, height, width)
    step = max(1, min(height, width) // SAMPLES)
    red, green, blue = np.moveaxis(image[::step, ::step], 2, 0)
    light = np.maximum(np.maximum(red, green), blue)  # by far quicker than a maximum along an axis of three
    lit = light > DARK_SHARE * np.percentile(light[::2, ::2], BRIGHT_PERCENTILE)
    rows, columns = (_span(lit.mean(axis=axis) > LIT_SHARE, step, side) for axis, side in ((1, height), (0, width)))
    of_height, of_width = of or (height, width)
    is_nearly_all = min(rows[1] / of_height, columns[1] / of_width) > WORTHWHILE
    if is_nearly_all or min(rows[1] / height, columns[1] / width) < SMALLEST_SHARE:
        return whole
    return rows[0], columns[0], rows[1], columns[1]


def _span(lit: NDArray[np.bool_], step: int, side: int) -> tuple[int, int]:
    """Return where the lit rows (or columns) begin and how many pixels they span; nothing lit is nothing long."""
    found = np.flatnonzero(lit)
    if not len(found):
        return 0, 0
    start, stop = max(0, (int(found[0]) - 1) * step + 1), min(side, (int(found[-1]) + 1) * step)
    return start, stop - start

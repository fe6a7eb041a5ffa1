"""Find the picture in an image: cameras surround it with dark margins, some wider than the picture itself."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(y, x, height, width) of a part of an image, in pixels."""

SAMPLES = 256
"""Least rows and columns that are looked at; a smaller image is looked at whole."""

BRIGHT_PERCENTILE = 95
DARK_SHARE = 0.15
"""A pixel is dark if its brightest channel is below this share of that of the image's brightest pixels."""

LIT_SHARE = 0.02
"""A row or column is part of the margins if no more of its pixels than this are lit, as dust and letters are."""

SMALLEST_SHARE = 0.25
"""Least share of either side: anything smaller is not a picture within margins, but a bright spot in a dark image."""

WORTHWHILE = 0.97
"""If more than this share of both sides is left, nothing is cut off: it would only blur the image."""


def inside_margins(image: NDArray[np.uint8], of: tuple[int, int] | None = None) -> Box:
    """Return the smallest box of an image, uint8 (H, W, 3), outside of which all is dark.

    The box is the whole image if there are no margins, or if it would be too small to be the picture, or if it would be
    nearly all of the image (or of the larger one, of the size `of` (height, width), that the image was cut out of).
    """
    height, width = image.shape[:2]
    whole = (0, 0, height, width)
    step = max(1, min(height, width) // SAMPLES)
    red, green, blue = np.moveaxis(image[::step, ::step], 2, 0)
    light = np.maximum(np.maximum(red, green), blue)  # much faster than a maximum along an axis of three
    lit = light > DARK_SHARE * np.percentile(light[::2, ::2], BRIGHT_PERCENTILE)
    rows, columns = (_span(lit.mean(axis=axis) > LIT_SHARE, step, side) for axis, side in ((1, height), (0, width)))
    of_height, of_width = of or (height, width)
    is_nearly_all = min(rows[1] / of_height, columns[1] / of_width) > WORTHWHILE
    if is_nearly_all or min(rows[1] / height, columns[1] / width) < SMALLEST_SHARE:
        return whole
    return rows[0], columns[0], rows[1], columns[1]


def _span(lit: NDArray[np.bool_], step: int, side: int) -> tuple[int, int]:
    """Return where the lit rows (or columns) begin and how many pixels they span; (0, 0) if none is lit."""
    found = np.flatnonzero(lit)
    if not len(found):
        return 0, 0
    start, stop = max(0, (int(found[0]) - 1) * step + 1), min(side, (int(found[-1]) + 1) * step)
    return start, stop - start

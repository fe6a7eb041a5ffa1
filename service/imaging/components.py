"""Which connected components of a mask stay: in a picture of one lesion, not those that are much smaller.

A component is foreground whose pixels touch, by a side or a corner.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TOUCHING = np.ones((3, 3), np.bool_)
COUNTED_AT_ONCE_PX = 1 << 18
"""NumPy counts labels in eight bytes each and lets no other thread run; both would be too much for a large picture."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out of a mask: how many components, and how many pixels in all."""

    components: int
    pixels: int


NOTHING = LeftOut(components=0, pixels=0)


def keep_main(levels: NDArray[np.uint8], lowest: int, least: float) -> tuple[NDArray[np.uint8], LeftOut]:
    """Return the map, uint8 (H, W), with 0 wherever a component is left out, and what was left out.

    The mask is every level from `lowest`, 1 or more, upwards. A component is left out if its area is less than `least`,
    0 to 1, times the largest one's; with 0 all are kept. If nothing is left out, the map itself is returned.
    """
    if not least:
        return levels, NOTHING
    labels, count = _label(levels >= lowest)
    if count < 2:
        return levels, NOTHING
    areas = _areas(labels, count)
    is_out = areas < least * areas.max()
    is_out[0] = False  # the background
    if not is_out.any():
        return levels, NOTHING
    kept = np.where(is_out[labels], np.uint8(0), levels)
    return kept, LeftOut(components=int(is_out.sum()), pixels=int(areas[is_out].sum()))


def _label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.signedinteger], int]:
    """Return the component of each pixel, from 1, and how many there are; 0 is background."""
    labels: NDArray[np.signedinteger] = np.empty(mask.shape, np.int16)
    try:
        return labels, int(ndimage.label(mask, TOUCHING, output=labels))
    except RuntimeError:  # SciPy raises it if there are more labels than the type can hold
        labels = np.empty(mask.shape, np.int32)
        return labels, int(ndimage.label(mask, TOUCHING, output=labels))


def _areas(labels: NDArray[np.signedinteger], count: int) -> NDArray[np.int64]:
    """Return the area of each component in pixels, int64 (count + 1,); the background's is given as 0."""
    areas = np.zeros(count + 1, np.int64)
    flat, step = labels.ravel(), max(COUNTED_AT_ONCE_PX, 4 * count)  # each step costs time for every area, too
    for start in range(0, flat.size, step):
        areas += np.bincount(flat[start : start + step], minlength=count + 1)
    areas[0] = 0
    return areas

"""Find the picture in an image with a frame of one colour around it: letter boxes, padded sections, slides."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.imaging.dim import HALF, filled
from service.imaging.margins import SAMPLES, SMALLEST_SHARE, Box

ALIKE = 4
"""Levels, in each channel, by which pixels of a frame may differ; fewer around a dim picture. JPEG blurs the end of a
frame, and the dark that cameras record varies more. In the three data sets, rows as even as that at a picture's edge
are always a frame."""

MOST_FRAMES = 32
"""Most frames one within the other: a picture with more is one of stripes, as is any that is one pixel high."""

ROWS_AT_ONCE = 32

UNLIKE_SHARE = 0.02
"""Most of a row's or column's pixels that may be unlike the frame it belongs to: dust and scratches are."""


def inside_frame(image: NDArray[np.uint8]) -> Box:
    """Return the part of an image, uint8 (H, W, 3), that is left once its plain edges are cut off.

    A frame within a frame is cut off as well. All of the image is left if it has no frame, if the rest would be too
    small to be the picture, or if there are so many frames that they are stripes. Costs next to nothing unless there is
    a frame.
    """
    return _inside(image) or (0, 0, image.shape[0], image.shape[1])


def _inside(image: NDArray[np.uint8]) -> Box | None:
    """Return what is left once the plain edges are cut off; None if that is too little, or if they are stripes."""
    height, width = image.shape[:2]
    box: Box = (0, 0, height, width)
    for _ in range(MOST_FRAMES):
        if (smaller := _without_columns(image, _without_rows(image, box))) == box:
            return box
        box = smaller
        if min(box[2] / height, box[3] / width) < SMALLEST_SHARE:
            break
    return None


def _without_rows(image: NDArray[np.uint8], box: Box) -> Box:
    y, x, height, width = box
    part = image[y : y + height, x : x + width]
    above, below = _plain_ends(part, ALIKE)
    if (above or below) and (alike := _alike(part)) < ALIKE:
        above, below = _plain_ends(part, alike)
    return y + above, x, height - above - below, width


def _alike(part: NDArray[np.uint8]) -> int:
    """Return by how many levels a frame's pixels may differ, given what is left: all of a dim picture is alike."""
    low, high = filled(part)
    return min(ALIKE, int(ALIKE * (high - low) / HALF))


def _without_columns(image: NDArray[np.uint8], box: Box) -> Box:
    y, x, height, width = box
    x, y, width, height = _without_rows(image.swapaxes(0, 1), (x, y, width, height))
    return y, x, height, width


def _plain_ends(part: NDArray[np.uint8], alike: int) -> tuple[int, int]:
    """Return how many rows are `_plain` at the top, and how many of the rest at the bottom."""
    above = _plain(part, alike)
    return above, _plain(part[above:][::-1], alike)


def _plain(part: NDArray[np.uint8], alike: int) -> int:
    """Return how many rows, from the first on, have the first one's colour from side to side, except for specks."""
    if not part.size:
        return 0
    thinned = part[:, :: max(1, part.shape[1] // SAMPLES)]
    colour = np.sort(thinned[0], axis=0)[thinned.shape[1] // 2].astype(np.int16)  # much faster than a median
    low, high = (np.clip(colour + by, 0, 255).astype(np.uint8) for by in (-alike, alike))
    count: int = part.shape[0]
    starts: list[int] = [0, *range(1, count, ROWS_AT_ONCE), count]
    for start, stop in pairwise(starts):  # most images have no frame, which the first row shows
        rows = thinned[start:stop]
        unlike = ((rows < low) | (rows > high)).any(axis=2).mean(axis=1)
        if (ends := np.flatnonzero(unlike > UNLIKE_SHARE)).size:
            return start + int(ends[0])
    return count

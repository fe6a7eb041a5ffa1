"""Comparing two answers to one probe input: coarse enough to forgive rounding, fine enough to see a wrong network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.02
"""Mean absolute difference in probability that half precision may make; another network's answer differs far more."""


def raster(probability: NDArray[np.floating], rows: int, columns: int) -> tuple[float, ...]:
    """Return the mean of each cell of a `rows` × `columns` raster over a (h, w) probability map, row by row."""
    bands = np.array_split(probability, rows, axis=0)
    return tuple(float(cell.mean()) for band in bands for cell in np.array_split(band, columns, axis=1))


def mean_difference(answer: Sequence[float], recorded: Sequence[float]) -> float:
    """Return the mean absolute difference of two rasters of the same length."""
    return float(np.mean(np.abs(np.subtract(answer, recorded))))

"""A drawn input: a published network's answer to it is recorded, and compared whenever the network is loaded.

Every pixel comes from integer arithmetic alone, so that the picture is the same, bit for bit, on every machine.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.imaging.placement import Image

Integers = NDArray[np.int64]


def probe(grid: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Image:
    """Return uint8 (h, w, 3): blobs, thin curved lines and texture at several scales, in the training images' colours.

    `mean` and `std` are fractions of full scale for R, G, B, as in a card's normalisation.
    """
    height, width = grid
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    channels = [_channel(y, x, offset) for offset in range(3)]
    pixels = [
        np.clip(round(m * 65536) + drawn * round(s * 65536) // 256, 0, 65536) * 255 // 65536
        for drawn, m, s in zip(channels, mean, std, strict=True)
    ]
    return np.ascontiguousarray(np.stack(pixels, axis=-1).astype(np.uint8))


def _channel(y: Integers, x: Integers, offset: int) -> Integers:
    """Return about -512 to 512 (256 is one standard deviation) for one colour channel."""
    blobs = _wave(y + 7 * offset, 160) * _wave(x + 3 * offset, 192) // 256 + _wave(x + 2 * y + 11 * offset, 56) // 4
    texture = _wave(x + y, 24) // 4 + _hash(y, x, offset) // 4
    dark_lines = (y + _wave(x, 128) // 8) % 48 < 3
    bright_lines = (x + _wave(y, 96) // 10) % 72 < 2
    drawn: Integers = blobs + texture - 384 * dark_lines + 256 * bright_lines
    return drawn


def _wave(t: Integers, period: int) -> Integers:
    """Return a smooth periodic curve between -256 and 256: parabolas, close to a sine."""
    half = period // 2
    phase = t % period
    u = phase % half
    arch = 1024 * u * (half - u) // (half * half)
    wave: Integers = np.where(phase < half, arch, -arch)
    return wave


def _hash(y: Integers, x: Integers, offset: int) -> Integers:
    """Return noise from -256 to 255 that depends only on the place and the channel's offset."""
    mixed = (y * 73856093 ^ x * 19349663 ^ (offset + 1) * 83492791) & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 15)) * 73244475 & 0xFFFFFFFF
    return (mixed >> 16) % 512 - 256

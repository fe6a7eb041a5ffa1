"""Inflate step by step, to find out how much there is without holding it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlib import _Decompress

AT_ONCE = 1 << 20
"""Bytes. Each step copies the rest of the piece: 30 MB for a PNG whose pixels are one chunk."""


def steps(inflating: "_Decompress", piece: memoryview) -> Iterator[int]:
    """Yield how many bytes each next part of a piece inflates to, at most AT_ONCE.

    Raises:
        zlib.error: the piece is damaged.
    """
    left: bytes | memoryview = piece
    while left:
        yield len(inflating.decompress(left, AT_ONCE))
        left = inflating.unconsumed_tail

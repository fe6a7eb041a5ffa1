"""Inflating step by step, to see how much there is without holding it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlib import _Decompress

AT_ONCE = 1 << 20
"""Bytes; each time what is left of the piece is copied, of a PNG whose pixels are one chunk 30 MB."""


def steps(inflating: "_Decompress", piece: memoryview) -> Iterator[int]:
    """Yield how many bytes come out of each next part of a piece, AT_ONCE at most.

    Raises:
        zlib.error: the piece is damaged.
    """
    left: bytes | memoryview = piece
    while left:
        yield len(inflating.decompress(left, AT_ONCE))
        left = inflating.unconsumed_tail

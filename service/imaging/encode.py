"""From masks and probabilities to PNG bytes, and to previews."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from service.imaging.placement import Image, Mask

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY_8 = (8, 0, 0, 0, 0)
"""Bits per sample, colour type grey, and the usual compression method, filter method and interlacing."""
UP = 2
"""The row filter that keeps differences from the row above: it leaves hardly more than the outlines of a mask."""


def encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit grey PNG of uint8 (H, W), without any metadata chunk. Masks are 0 and 255.

    Written here because Pillow tries five filters on every row: it takes 1.6 ms for a mask of 512 × 512, this 0.5 ms,
    at 9.2 kB instead of 9.6; for a probability map 3.2 ms against 1.5, at 100 kB instead of 90. Run lengths alone
    (Z_RLE) were measured against zlib's levels 0 to 9: as small as level 6, and as quick as level 1.
    """
    height, width = grey.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = grey[0]
    np.subtract(grey[1:], grey[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = deflate.compress(rows.data) + deflate.flush()
    header = struct.pack(">II5B", width, height, *GREY_8)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def overlay(image: Image, mask: Mask, *, colour: tuple[int, int, int] = (0, 220, 120), alpha: float = 0.35) -> Image:
    """Return a copy of `image`, uint8 (H, W, 3), with `mask` (H, W; not 0 is foreground) tinted and outlined."""
    inside = mask > 0
    outline = inside & ~_eroded(inside)
    tint = np.array(colour, np.float32)
    drawn = image.copy()
    drawn[inside] = np.rint(image[inside] * np.float32(1 - alpha) + tint * np.float32(alpha)).astype(np.uint8)
    drawn[outline] = colour
    return drawn


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the foreground pixels whose four neighbours are foreground; beyond the border, all is foreground."""
    framed = np.pad(inside, 1, constant_values=True)
    return framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]

"""Refuse a TIFF in which a compressed strip or tile ends in zeros, as a copy that broke off leaves them behind.

To inflate and LZW the zeros are codes like any others, so that the rest of the piece comes as garbage, or black. The
checksum at the end of deflated data, or LZW's missing end, would show it; but libtiff stops where the piece is full.
"""

import zlib

from PIL.TiffImagePlugin import COMPRESSION, TiffImageFile

from service.errors import DamagedImage
from service.imaging import deep_tiff, tiff
from service.imaging.inflate import steps
from service.imaging.tiff_pieces import pieces

_LZW, _XZ = 5, 34_925
_DEFLATE = frozenset({8, 32_946})

_ZEROS = bytes(4)
"""No usual end: the checksum behind deflated data is hardly ever 0; LZW's end has a bit set; XZ's are letters."""

_END_OF_LZW, _END_BITS = 0x101, 9
"""A code of 9 to 12 bits, from a byte's highest bit down; the bits below it in the last byte are not set."""


def check(upload: bytes, page: tiff.Page, image: TiffImageFile) -> None:
    """Raise DamagedImage if a strip or tile ends in zeros, unless these lie behind the end of the compressed data.

    Costs next to nothing, except that deflated pieces that end in zeros are inflated once more.
    """
    compression = image.tag_v2.get(COMPRESSION)
    if compression not in _DEFLATE | {_LZW, _XZ}:
        return
    most = page.piece_pixels(*image.size) * max(1, round(deep_tiff.bytes_a_pixel(image, is_jpeg_buffered=False)))
    for start, end in pieces(image):
        if upload.endswith(_ZEROS, start, end) and not _ends(memoryview(upload)[start:end], compression, most):
            raise DamagedImage("the TIFF is cut short and filled up with zeros: a part of the picture is missing")


def _ends(piece: memoryview, compression: int, most: int) -> bool:
    """Whether the compressed data end before the zeros."""
    if compression == _LZW:
        return _ends_in_lzw(bytes(piece))
    return compression in _DEFLATE and _inflates(piece, most)


def _ends_in_lzw(piece: bytes) -> bool:
    """Whether the last set bits are those of LZW's end: by chance, one broken-off copy in 256 has such bits."""
    last = int.from_bytes(piece.rstrip(b"\0")[-3:])
    return last > 0 and (last // (last & -last)) % 2**_END_BITS == _END_OF_LZW


def _inflates(piece: memoryview, most: int) -> bool:
    """Whether a piece inflates to its end, checksum included, within `most` bytes and one step."""
    inflating = zlib.decompressobj()
    try:
        for more in steps(inflating, piece):
            most -= more
            if inflating.eof or most < 0:
                break
    except zlib.error:
        return False
    return inflating.eof

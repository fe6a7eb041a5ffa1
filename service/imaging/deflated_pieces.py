"""Refuse a TIFF of which a deflated strip or tile ends in zeros, as a copy that broke off leaves them behind.

To inflate they are codes as any others, so that the rest of the piece comes as garbage. The checksum at the end of what
was deflated would tell; but libtiff stops where the piece is full, and then that end may not have been reached.
"""

import zlib

from PIL.TiffImagePlugin import COMPRESSION, TiffImageFile

from service.errors import DamagedImage
from service.imaging import deep_tiff, tiff

_DEFLATE = frozenset({8, 32_946})
_XZ = 34_925

_CHECKSUM_BYTES = 4
"""Of what was deflated; next to never are all of them 0, and of XZ the last two are letters."""

_INFLATED_AT_ONCE = 1 << 20
"""Bytes; each time what is left of the piece is copied."""


def check_ends(upload: bytes, page: tiff.Page, image: TiffImageFile) -> None:
    """Raise DamagedImage if a strip or tile ends in zeros, unless these lie behind the end of what was deflated.

    Costs next to nothing, but where there are such zeros: those pieces are inflated once more.
    """
    compression = image.tag_v2.get(COMPRESSION)
    if compression not in _DEFLATE | {_XZ}:
        return
    most = page.piece_pixels(*image.size) * max(1, round(deep_tiff.bytes_a_pixel(image, is_jpeg_buffered=False)))
    for start, end in deep_tiff.pieces(image):
        is_suspect = upload.endswith(bytes(_CHECKSUM_BYTES), start, end)
        if is_suspect and (compression == _XZ or not _ends(memoryview(upload)[start:end], most)):
            raise DamagedImage("the TIFF is cut short and filled up with zeros: a part of the picture is missing")


def _ends(piece: memoryview, most: int) -> bool:
    """Whether a piece inflates to an end, checksum included, within so many bytes and one step."""
    inflating = zlib.decompressobj()
    left: bytes | memoryview = piece
    try:
        while left and not inflating.eof and most >= 0:
            most -= len(inflating.decompress(left, _INFLATED_AT_ONCE))
            left = inflating.unconsumed_tail
    except zlib.error:
        return False
    return inflating.eof

"""Refuse a TIFF with a JPEG that breaks off or is too small, and a JPEG that ends in zeros.

libtiff hands each strip or tile to libjpeg, which fills up what is missing, usually with grey, and says so in a warning
that nobody sees. Each strip or tile is a JPEG of its own, so one that breaks off has no end marker. If one is smaller
than its strip or tile, libtiff leaves the rest black, and warns in the same way.
"""

from itertools import cycle, product

from PIL.TiffImagePlugin import COMPRESSION, JPEGTABLES, TiffImageFile

from service.errors import DamagedImage
from service.imaging import tiff
from service.imaging.tiff_pieces import pieces

_JPEG = 7
"""Not the old style, 6: its pieces may be parts of one JPEG."""

_END_OF_IMAGE = b"\xff\xd9"
"""Never occurs within compressed data: there, a 0 or the number of a restart follows each 0xFF."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The second bytes of the markers that a JPEG's size follows."""

_MOST_MARKERS = 64
"""As far as this a JPEG's size is looked for; encoders write a tenth of that before it. An upload can hold millions."""

Size = tuple[int, int]


def check_ends(upload: bytes, image: TiffImageFile) -> None:
    """Raise DamagedImage if a strip's or tile's bytes, or those of the tables that all share, lack a JPEG's end marker.

    A JPEG that was cut off and closed with a new end marker passes, as it does outside of a TIFF.
    """
    tags = image.tag_v2
    if tags.get(COMPRESSION) != _JPEG:
        return
    tables = tags.get(JPEGTABLES)
    if tables and _END_OF_IMAGE not in tables:
        raise DamagedImage("the TIFF holds JPEGs whose tables break off: a part of them is missing")
    for start, end in pieces(image):
        if upload.find(_END_OF_IMAGE, start, end) < 0:
            raise DamagedImage("the TIFF holds a JPEG that breaks off: a part of the picture is missing")


def check_sizes(upload: bytes, page: tiff.Page, image: TiffImageFile) -> None:
    """Raise DamagedImage if a JPEG is less wide or high than the part of the picture that lies in its strip or tile.

    A JPEG whose size is not found is left to libtiff.
    """
    if image.tag_v2.get(COMPRESSION) != _JPEG:
        return
    for (start, end), (width, height) in zip(pieces(image), cycle(_piece_sizes(page, image.size)), strict=False):
        told = _size(upload, start, end)
        if told is not None and (told[0] < width or told[1] < height):
            raise DamagedImage("the TIFF holds a JPEG that is smaller than its part of the picture")


def _piece_sizes(page: tiff.Page, size: Size) -> list[Size]:
    """Return the (width, height) of each strip or tile, in order, of a plane of a picture of `size` (width, height)."""
    width, height = size
    across, down = page.tile or (width, min(page.strip_rows or height, height))
    corners = product(range(0, height, down), range(0, width, across))
    return [(min(across, width - left), min(down, height - top)) for top, left in corners]


def _size(upload: bytes, start: int, end: int) -> Size | None:
    """Return the (width, height) that a JPEG between `start` and `end` gives, None if it is not found."""
    at = start + 2  # behind its start marker
    for _ in range(_MOST_MARKERS):
        if at + 9 > end or upload[at] != 0xFF:
            return None
        marker = upload[at + 1]
        if marker in _START_OF_FRAME:
            return int.from_bytes(upload[at + 7 : at + 9]), int.from_bytes(upload[at + 5 : at + 7])
        at += 1 if marker == 0xFF else 2 + int.from_bytes(upload[at + 2 : at + 4])
    return None


def check_tail(upload: bytes, first_scan: int) -> None:
    """Raise DamagedImage if a JPEG ends in zeros instead of its end marker, as a copy that broke off leaves it.

    To libjpeg the zeros are pixels, and enough of them fill the picture, so that it does not notice. It does notice a
    JPEG that is cut short without zeros.
    """
    if upload.endswith(b"\0") and upload.find(_END_OF_IMAGE, first_scan) < 0:
        raise DamagedImage("the JPEG breaks off: a part of the picture is missing")

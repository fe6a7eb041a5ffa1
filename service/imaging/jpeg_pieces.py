"""Refuse a TIFF of JPEGs of which one breaks off, and a JPEG of which nothing is left at the end but zeros.

libtiff hands each strip or tile to libjpeg, which fills up what is missing, grey as a rule, and says so in a warning
that nobody hears. Each is a JPEG of its own, so one that breaks off is one without an end.
"""

from PIL.TiffImagePlugin import COMPRESSION, JPEGTABLES, TiffImageFile

from service.errors import DamagedImage
from service.imaging.tiff_pieces import pieces

_JPEG = 7
"""Not the old style, 6, whose pieces may be parts of one JPEG."""

_END_OF_IMAGE = b"\xff\xd9"
"""Never within what is compressed: there each 0xFF is followed by a 0, or by the number of a restart."""


def check_ends(upload: bytes, image: TiffImageFile) -> None:
    """Raise DamagedImage if the bytes of a strip or tile end before its JPEG does, or those of the tables of all do.

    A JPEG that was cut and closed again with its end marker passes, as it does outside of a TIFF.
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


def check_tail(upload: bytes, first_scan: int) -> None:
    """Raise DamagedImage if a JPEG ends in zeros instead of its end marker: a copy that broke off leaves those behind.

    They are pixels to libjpeg, and enough of them fill the picture up, so that it misses nothing. What is cut short and
    has none it does miss.
    """
    if upload.endswith(b"\0") and upload.find(_END_OF_IMAGE, first_scan) < 0:
        raise DamagedImage("the JPEG breaks off: a part of the picture is missing")

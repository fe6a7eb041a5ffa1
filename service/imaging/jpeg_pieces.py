"""Refuse a TIFF of JPEGs of which one breaks off.

libtiff hands each strip or tile to libjpeg, which fills up what is missing, grey as a rule, and says so in a warning
that nobody hears. Each is a JPEG of its own, so one that breaks off is one without an end.
"""

from PIL.TiffImagePlugin import (
    COMPRESSION,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILEOFFSETS,
    TiffImageFile,
)

from service.errors import DamagedImage

_JPEG = 7
"""Not the old style, 6, whose pieces may be parts of one JPEG."""

_END_OF_IMAGE = b"\xff\xd9"
"""Never within what is compressed: there each 0xFF is followed by a 0, or by the number of a restart."""


def check_ends(upload: bytes, image: TiffImageFile) -> None:
    """Raise DamagedImage if the bytes of a strip or tile end before its JPEG does.

    A JPEG that was cut and closed again with its end marker passes, as it does outside of a TIFF.
    """
    tags = image.tag_v2
    if tags.get(COMPRESSION) != _JPEG:
        return
    offsets = tags.get(STRIPOFFSETS) or tags.get(TILEOFFSETS) or ()
    lengths = tags.get(STRIPBYTECOUNTS) or tags.get(TILEBYTECOUNTS) or ()
    for start, length in zip(offsets, lengths, strict=False):  # of too few libtiff makes an error, or guesses the rest
        if upload.find(_END_OF_IMAGE, start, start + length) < 0:
            raise DamagedImage("the TIFF holds a JPEG that breaks off: a part of the picture is missing")

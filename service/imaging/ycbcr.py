"""Refuse a TIFF in YCbCr of which Pillow would silently show some pieces black or in wrong colours.

Unless it holds JPEGs, libtiff converts such a compressed picture to RGB itself, and goes on if a strip or tile cannot
be decompressed. It stops there if the same bytes are declared to be grey, so they are decompressed once more as grey.
"""

import io

from PIL.TiffImagePlugin import (
    COMPRESSION,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    ROWSPERSTRIP,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    YCBCRSUBSAMPLING,
    TiffImageFile,
)

from service.errors import DamagedImage
from service.imaging import tiff

_GREY, _YCBCR = 1, 6
_JPEGS = frozenset({6, 7})

_UNSAID = (2, 2)
"""How many pixels, across and down, share their colour if the file does not say."""

_SHARING = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4))
"""The ways of sharing that libtiff reads."""


def shares_colours(image: TiffImageFile) -> bool:
    """Whether a picture in YCbCr has fewer samples of each colour than pixels."""
    return _sharing(image) != (1, 1)


def check_header(page: tiff.Page, image: TiffImageFile) -> None:
    """Raise DamagedImage if pixels share their colours in a way that libtiff cannot read, or reads wrongly."""
    if not _is_brought_to_rgb(image):
        return
    if _sharing(image) not in _SHARING:
        raise DamagedImage("the TIFF says in no way that is known how its pixels share their colours; save it as RGB")
    across, down = _sharing(image)
    if page.tile is not None:
        return
    if (across, down) == (4, 4) and -(-image.width // across) % 2:  # libtiff reads too few bytes of each strip
        raise DamagedImage("the TIFF has a colour for each 4 × 4 pixels, and an odd number of them; save it as RGB")
    if page.strip_rows is not None and page.strip_rows < image.height and page.strip_rows % down:
        raise DamagedImage("the TIFF has strips of rows that share their colours with others; save it as RGB")


def check_pieces(upload: bytes, page: tiff.Page, image: TiffImageFile) -> None:
    """Raise Pillow's OSError if a strip or tile of `page` cannot be decompressed; the page is the first in `upload`.

    `check_header` must have passed the page. Costs a copy of the upload, and 1 to 3 bytes of memory a pixel, until it
    is done.
    """
    if _is_brought_to_rgb(image):
        TiffImageFile(io.BytesIO(tiff.retold(upload, _as_grey(page, image)))).load()


def _is_brought_to_rgb(image: TiffImageFile) -> bool:
    is_compressed = image.use_load_libtiff and image.tag_v2.get(COMPRESSION) not in _JPEGS
    return bool(is_compressed and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _YCBCR)


def _sharing(image: TiffImageFile) -> tuple[int, ...]:
    """Return how many pixels, across and down, share their colour: what the file says, whatever it is."""
    return tuple[int, ...](image.tag_v2.get(YCBCRSUBSAMPLING, _UNSAID))


def _as_grey(page: tiff.Page, image: TiffImageFile) -> dict[int, int]:
    """Return the tags of a grey picture that lies in as many strips or tiles, of as many bytes each.

    YCbCr samples lie in blocks: the light of all pixels that share their colour, then that colour.
    """
    across, down = _sharing(image)
    samples = across * down + 2
    width, length = page.tile or (image.width, min(page.strip_rows or image.height, image.height))
    width, length = samples * -(-width // across), -(-length // down)
    told = {PHOTOMETRIC_INTERPRETATION: _GREY, SAMPLESPERPIXEL: 1}
    if page.tile is None:
        return told | {IMAGEWIDTH: width, IMAGELENGTH: -(-image.height // down), ROWSPERSTRIP: length}
    rows, columns = -(-image.height // page.tile[1]), -(-image.width // page.tile[0])
    return told | {IMAGEWIDTH: columns * width, IMAGELENGTH: rows * length, TILEWIDTH: width, TILELENGTH: length}

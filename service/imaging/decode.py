"""From an upload's bytes to pixels: 8-bit RGB by one rule, whatever was sent.

The formats are PNG, JPEG (of MPO, the first picture), TIFF, BMP and Netpbm (PBM, PGM, PPM, grey PFM). The rule:

- **8 bits** a channel: as they are. **16-bit RGB**: the upper byte of each channel.
- **1 bit**: 0 and 255. **Palette**: its colours. **Grey**: three equal channels. Grey of 2 or 4 bits, and PGM and PPM
  that declare a largest value below 65535: scaled from the declared range; levels above 0 stay above 0.
- **Alpha** (also a transparent palette entry or colour): composited over black. No content is invented, and a
  transparent margin looks like the dark surround of a fundus or dermoscopy image. A picture that is transparent
  everywhere is read as if it were opaque.
- **CMYK, YCbCr, LAB**: converted to RGB by Pillow, which knows Adobe's inverted CMYK JPEGs. Colour profiles are not
  applied.
- **Grey integers of more than 8 bits**: the window from 0 to 2ⁿ − 1 becomes 0 to 255, where n is the smallest of 8, 10,
  12, 14, 16 (and so on to 32) that holds the largest level present: 12-bit data in a 16-bit file is not nearly black.
  If levels of more than 8 bits span less than half of that window, it goes from the smallest to the largest of them. A
  transparent level does not count. Negative levels, also of 8 bits, become 0. With alpha, PNG's 16-bit grey is read
  like 16-bit RGB instead: the upper byte.
- **Float** (32 bits, in a TIFF also 64): levels within 0 to 1 are multiplied by 255, others within 0 to 255 are taken
  as they are, all others are stretched from the smallest to the largest finite level. NaN becomes 0; infinities become
  0 and 255.
- **TIFF whose 0 is white**: turned over; if it has more than 8 bits, within its window. If the file does not say, 0 is
  black, or, in a fax, white.
- The **EXIF orientation** is applied. A broken EXIF block is ignored, and so is an orientation in XMP or a PNG's text.
- **Several frames** (TIFF pages, animated PNG): `frame`, from 0, picks one. Pages that TIFF marks as thumbnails or
  transparency masks do not count.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.imaging import levels
from service.imaging.opening import open_upload, pillows_errors
from service.imaging.placement import Image


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image, uint8 (H, W, 3), RGB, upright, and its format in lower case: png, jpeg, tiff, bmp or ppm.

    `is_turned`: it is stored in another orientation, given by its EXIF or TIFF tag.
    """

    pixels: Image
    format: str
    is_turned: bool = False


@dataclass(frozen=True, slots=True)
class DecodedMask:
    """A mask, bool (H, W), upright; `is_binary`: the file held only 0 and at most one other level.

    `is_turned`: as in `Decoded`.
    """

    mask: NDArray[np.bool_]
    is_binary: bool
    is_turned: bool = False


def decode(upload: bytes, *, max_pixels: int, frame: int | None = None) -> Decoded:
    """Return the image in `upload` by the rule above. Safe to call from several threads.

    Needs about 8 bytes of memory per pixel besides the upload, and at most 10 for each of `max_pixels`.

    Raises:
        UnknownImageFormat: the bytes do not begin like any format that is read.
        ImageTooLarge: the header declares more pixels than `max_pixels`, or more than 65,535 on a side, or a way of
            storing them that takes more work or memory than so many pixels may; nothing was decoded.
        DamagedImage: the image is truncated, broken, without a finite value, or of a variety that cannot be read.
        FrameNeeded: there are several frames and `frame` is None, or there is no such frame.
    """
    opened = open_upload(upload, max_pixels, frame)
    with pillows_errors(), np.errstate(invalid="ignore"):  # numpy warns of some kinds of NaN
        return Decoded(levels.to_rgb(opened.image), opened.format.lower(), opened.is_turned)


def decode_mask(upload: bytes, *, max_pixels: int, frame: int | None = None) -> DecodedMask:
    """Return the mask in `upload`. Of two levels, the one that is not 0, or else the higher, is foreground.

    So 0/1, 0/255, 0/65535, 1/2 and black/red all mean background/foreground. Of more than two levels, those in the
    upper half of the range that becomes 0 to 255 by the rule above are foreground. Levels are grey levels; for colours,
    they are the luma, and every colour but black is above 0. Alpha is ignored, unless nothing else varies: then it is
    the mask.

    Raises:
        UnknownImageFormat, ImageTooLarge, DamagedImage, FrameNeeded: as `decode`.
    """
    opened = open_upload(upload, max_pixels, frame)
    with pillows_errors():
        return DecodedMask(*levels.foreground(opened.image), opened.is_turned)

"""Mend or refuse what Pillow silently misreads in a TIFF, above all in one of more than 8 bits a sample.

- Uncompressed samples, stored plane by plane: Pillow takes them for 8-bit ones in this machine's byte order.
- Compressed samples in the other byte order: the decompressor has already swapped them, and Pillow swaps them back.
- Grey whose 0 is white, of more than 8 bits: the picture comes as a negative.
- Unsigned levels of 32 bits: those from 2³¹ on come as negative numbers.
- Signed levels of 8 bits: negative ones come as the highest.
- Uncompressed pictures that lack strips or tiles: they come black there.
- Uncompressed pictures that list more strips or tiles than they have: the surplus covers the first.
- Palette colours written in 8 bits instead of 16: they come as black.
- Grey with alpha, plane by plane and compressed: it comes without alpha.
- Uncompressed pictures of one sample a pixel whose planes are said to lie apart: all are taken for grey of 8 bits.
- CIELab, and RGB with a fourth sample that has no name, plane by plane: the colours come wrong.
- Several samples that are no colours: of two together, and of planes, the first comes; of uncompressed planes the last.
- YCbCr plane by plane: what is missing or damaged comes black.
- JPEG of 12 bits in strips of an odd width: the last column comes as 0.
- Grey of up to 8 bits that does not say whether its 0 is white: it comes as a negative. Other readers, and Pillow with
  more bits, take 0 for black, except with fax compressions.

Also read kinds that Pillow knows, but not in this byte order or not with a white 0, and floats of 64 bits, which are
what NumPy makes of nearly everything.
"""

from typing import Any

import numpy as np
from PIL import ExifTags, ImageFile, ImagePalette
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRASAMPLES,
    II,
    IMAGELENGTH,
    IMAGEWIDTH,
    MM,
    OPEN_INFO,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ROWSPERSTRIP,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPOFFSETS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from service.errors import DamagedImage
from service.imaging import levels, ycbcr

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _YCBCR = 0, 1, 6
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_SAMPLES_TOGETHER, _PLANES_APART = 1, 2

_UNCOMPRESSED, _OLD_JPEG, _JPEG, _WEBP = 1, 6, 7, 50_001
_HEADER_BYTES = 8

_FAX = frozenset({2, 3, 4})
"""CCITT's compressions: 0 is white unless the file says otherwise."""

_NO_COLOURS = "the TIFF holds several channels that are no colours; save the one that is meant as grey"

_TWELVE_BITS = ("I;16", "I;12")  # packed, in the same way whatever the byte order
OPEN_INFO.update(
    {
        (MM, _WHITE_IS_ZERO, (_UNSIGNED,), 1, (16,), ()): ("I;16B", "I;16B"),
        (MM, _BLACK_IS_ZERO, (_UNSIGNED,), 1, (32,), ()): ("I", "I;32BS"),
        (MM, _BLACK_IS_ZERO, (_UNSIGNED,), 1, (12,), ()): _TWELVE_BITS,
        (MM, _WHITE_IS_ZERO, (_UNSIGNED,), 1, (12,), ()): _TWELVE_BITS,
        (II, _WHITE_IS_ZERO, (_UNSIGNED,), 1, (12,), ()): _TWELVE_BITS,
        (II, _WHITE_IS_ZERO, (_FLOAT,), 1, (64,), ()): ("F", "F;64F"),
        (II, _BLACK_IS_ZERO, (_FLOAT,), 1, (64,), ()): ("F", "F;64F"),
        (MM, _WHITE_IS_ZERO, (_FLOAT,), 1, (64,), ()): ("F", "F;64BF"),
        (MM, _BLACK_IS_ZERO, (_FLOAT,), 1, (64,), ()): ("F", "F;64BF"),
    }
)
"""Pillow's table of kinds: byte order, photometric interpretation, sample format, fill order, bits, extra samples."""

_PLANES = {("RGB", 16): ("{};16L", "{};16B"), ("F", 32): ("F;32F", "F;32BF"), ("I", 32): ("I;32S", "I;32BS")}
"""Pillow's names for the samples of one plane, little and big endian, by the picture's mode and bits per sample."""

_INTERLEAVED = ("{}", "{}")
"""Interleaved samples already have the right names."""

_DECOMPRESSED = {"F;32BF": "F;32NF", "F;64BF": "F;64NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
"""Pillow's names for samples in this machine's byte order, by its names for samples in the file's."""


class TiffAsStored(TiffImageFile):
    """A TIFF that is not turned upright, neither its size nor its pixels.

    Pillow turns it while the decoder still holds a copy of what it decoded. That makes three copies at a time, where
    the decoder's and the picture's suffice.
    """

    orientation: object = 1
    """The orientation that the file gives."""

    def _setup(self) -> None:
        told = self.tag_v2.get(ExifTags.Base.Orientation, 1)
        self.orientation = told[0] if isinstance(told, bytes) and told else told
        if self.tag_v2.get(COMPRESSION, 1) == _UNCOMPRESSED:
            if self.tag_v2.get(SAMPLESPERPIXEL, 1) == 1:
                self.tag_v2[PLANAR_CONFIGURATION] = _SAMPLES_TOGETHER  # with one sample both are the same
            _leave_out_surplus(self.tag_v2)
        super()._setup()
        self._size = self._tile_size

    def load_end(self) -> None:
        """Do nothing; Pillow would turn the picture here."""


def _leave_out_surplus(tags: ImageFileDirectory_v2) -> None:
    """Remove the offsets of strips or tiles beyond those of the picture."""
    listed = STRIPOFFSETS if STRIPOFFSETS in tags else TILEOFFSETS
    width, height = tags[IMAGEWIDTH], tags[IMAGELENGTH]
    if listed == STRIPOFFSETS:
        across, down = width, tags.get(ROWSPERSTRIP, height)
    else:
        across, down = tags[TILEWIDTH], tags[TILELENGTH]
    planes = tags.get(SAMPLESPERPIXEL, 1) if tags.get(PLANAR_CONFIGURATION) == _PLANES_APART else 1
    tags[listed] = tags[listed][: planes * -(-width // across) * -(-height // down)]


def bytes_a_pixel(image: TiffImageFile, *, is_jpeg_buffered: bool) -> float:
    """Return how many bytes of memory libtiff takes for each pixel of the strip or tile that it decodes.

    `is_jpeg_buffered`: it is a JPEG that may have several scans, so that its coefficients are kept.
    """
    samples = 1 if _is_apart(image) else max(int(image.tag_v2.get(SAMPLESPERPIXEL, 1)), len(image.getbands()))
    return samples * (_bits(image) / 8 + 2 * is_jpeg_buffered)


def name_samples(image: TiffImageFile) -> None:
    """Tell Pillow how the samples and the palette of a picture that is not loaded yet are stored.

    Raises:
        DamagedImage: the samples are stored in a way that Pillow cannot read, or some are missing.
    """
    bits = _bits(image)
    _refuse_misread(image, bits)
    is_fax = image.tag_v2.get(COMPRESSION) in _FAX
    if bits <= 8 and not is_fax and PHOTOMETRIC_INTERPRETATION not in image.tag_v2:
        image.tile = [_with_black_zero(tile) for tile in image.tile]
    if bits > 8:
        names = _PLANES.get((image.mode, bits)) if _is_apart(image) else _INTERLEAVED
        image.tile = [_named(tile, names, is_big_endian=image.tag_v2.prefix == b"MM") for tile in image.tile]
    if image.mode in {"P", "PA"} and max(image.tag_v2[COLORMAP]) <= 255:
        image.palette = ImagePalette.raw("RGB;L", bytes(image.tag_v2[COLORMAP]))


def _refuse_misread(image: TiffImageFile, bits: int) -> None:
    if image.tag_v2.get(COMPRESSION) == _WEBP:
        raise DamagedImage("the TIFF holds WebP, which is not read; save it deflated")
    if not image.use_load_libtiff and _is_incomplete(image):
        raise DamagedImage("the TIFF is cut short: strips or tiles are missing")
    if image.mode == "L" and image.tag_v2.get(SAMPLESPERPIXEL, 1) > 1:  # the second sample is not said to be alpha
        raise DamagedImage(_NO_COLOURS)
    if _is_apart(image):
        _refuse_misread_planes(image)
    if not image.use_load_libtiff and image.mode == "YCbCr" and ycbcr.shares_colours(image):
        raise DamagedImage("the TIFF has fewer samples of colour than of light, uncompressed; save it as RGB")
    is_jpeg, is_tiled = image.tag_v2.get(COMPRESSION) == _JPEG, TILEWIDTH in image.tag_v2
    if is_jpeg and bits == 12 and image.width % 2 and not is_tiled:
        raise DamagedImage(
            "the TIFF holds a JPEG of 12 bits and an odd width, whose last column is lost; save it deflated"
        )


def _refuse_misread_planes(image: TiffImageFile) -> None:
    if image.tag_v2.get(COMPRESSION) == _OLD_JPEG:  # each strip would be looked for from the first one on
        raise DamagedImage("the TIFF holds an old-style JPEG plane by plane; save it deflated")
    if len(image.getbands()) == 1 and image.tag_v2.get(SAMPLESPERPIXEL, 1) > 1:
        raise DamagedImage(_NO_COLOURS)
    if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _YCBCR:
        raise DamagedImage("the TIFF has YCbCr plane by plane; save it with interleaved samples, or as RGB")
    if image.mode in {"LA", "PA"}:
        raise DamagedImage("the TIFF has its alpha in a plane of its own; save it with interleaved samples")
    if image.mode == "LAB":
        raise DamagedImage("the TIFF has CIELab plane by plane; save it with interleaved samples, or as RGB")
    if image.mode == "RGBA" and EXTRASAMPLES not in image.tag_v2:
        raise DamagedImage(
            "the TIFF has a fourth sample that it does not name, plane by plane; save it with interleaved samples"
        )


def _is_incomplete(image: TiffImageFile) -> bool:
    """Whether the pieces of an uncompressed picture do not cover it, or lie within the file's own header."""
    boxes = [tile.extents for tile in image.tile if tile.extents is not None and tile.offset >= _HEADER_BYTES]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    planes = len(image.getbands()) if _is_apart(image) else 1
    return len(boxes) < len(image.tile) or covered < image.width * image.height * planes


def _is_apart(image: TiffImageFile) -> bool:
    return bool(image.tag_v2.get(PLANAR_CONFIGURATION) == _PLANES_APART)


def read(image: TiffImageFile) -> PillowImage.Image:
    """Return the picture with its pixels loaded: 0 is black, and no level is negative unless the file says so.

    Raises:
        DamagedImage: it is a float picture whose 0 is white, without a finite value.
    """
    tags = image.tag_v2
    image.load()
    bits, sample_format = _bits(image), tags.get(SAMPLEFORMAT, (_UNSIGNED,))[0]
    if image.mode == "I" and bits == 32 and sample_format == _UNSIGNED:
        _bring_down(image)
    if bits == 8 and sample_format == _SIGNED:
        return _with_signs(image)
    if levels.is_deep(image) and tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        _turn_over(image)
    return image


def _bits(image: TiffImageFile) -> int:
    return int(max(image.tag_v2.get(BITSPERSAMPLE, (1,))))


def _named(tile: ImageFile._Tile, names: tuple[str, str] | None, *, is_big_endian: bool) -> ImageFile._Tile:
    """Return a piece of the picture with the right name for its samples; `names` are for uncompressed samples."""
    name, *rest = tuple[Any, ...](tile.args or ("",))
    if tile.codec_name == "libtiff":
        return tile._replace(args=(_DECOMPRESSED.get(name, name), *rest))
    if names is None:
        raise DamagedImage("the TIFF has its deep samples plane by plane; save it with interleaved samples")
    return tile._replace(args=(names[is_big_endian].format(name), *rest))


def _with_black_zero(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return a piece of a grey picture without the `I` of `L;I` or `1;IR`: Pillow then does not invert its samples."""
    name, *rest = tuple[Any, ...](tile.args or ("",))
    kind, _, form = name.partition(";")
    form = form.replace("I", "")
    return tile._replace(args=(f"{kind};{form}" if form else kind, *rest))


def _with_signs(image: TiffImageFile) -> PillowImage.Image:
    """Return the picture with its levels as signed ones, in a deeper mode: Pillow has no signed mode of 8 bits."""
    signed = PillowImage.new("I", image.size)
    for rows, strip in levels.strips(image):
        signed.paste(PillowImage.fromarray(np.asarray(strip).view(np.int8).astype(np.int32)), (0, rows.start))
    return signed


def _bring_down(image: TiffImageFile) -> None:
    """Divide the levels by 4 if any is too high for Pillow; the lowest bits do not change how it looks."""
    if all((np.asarray(strip) >= 0).all() for _, strip in levels.strips(image)):
        return
    for rows, strip in levels.strips(image):
        lowered = np.asarray(strip).view(np.uint32) // 4
        image.paste(PillowImage.fromarray(lowered.astype(np.int32)), (0, rows.start))


def _turn_over(image: TiffImageFile) -> None:
    """Make the top of the window black and its bottom white; NaN stays NaN."""
    window = levels.window_of(image)
    for rows, strip in levels.strips(image):
        stored = np.asarray(strip)
        with np.errstate(invalid="ignore"):  # numpy warns of some kinds of NaN
            turned = (window.low + window.high - stored.astype(np.float64)).astype(stored.dtype)
        image.paste(PillowImage.fromarray(turned), (0, rows.start))

"""From an upload's bytes to one Pillow image with its pixels loaded: format, size limit, frames, orientation.

This is the one place that meets hostile bytes. The first bytes tell the format, and only that format's reader gets
them. Nothing is decoded before the header's size has passed the limit; Pillow's own, process-wide limit is neither
changed nor relied upon.
"""

import io
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from PIL import BmpImagePlugin, ExifTags, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import Image as PillowImage

from service.errors import BadUpload, DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging import bmp, deep_tiff, jpeg_pieces, netpbm, png, tiff, workload, ycbcr, zero_tails
from service.imaging.png_rows import check_rows
from service.imaging.quiet import QuietPillow

logger = logging.getLogger(__name__)

_quiet_pillow = QuietPillow()

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "PPM": netpbm.KINDS,
}
"""The formats read, by their first bytes. MPO, which phones write, is a JPEG; its later pictures are ignored."""

_DAMAGED = "the image is truncated, broken or of a kind that cannot be read"

_BMP_RUN_LENGTHS = {BmpImagePlugin.BmpImageFile.COMPRESSIONS[name] for name in ("RLE8", "RLE4")}

_SCANS = 12
"""A JPEG of up to this many scans, as encoders write them, takes about as long as a PNG of its size."""

_RUN_LENGTHS_SLOWER, _PLAIN_SLOWER = 8, 5
"""How many times as long as a PNG of the same size run-length coded BMP, and Netpbm as text, take."""

_PIECE_PIXELS, _PLAIN_PIECE_PIXELS = 200, 500
"""Each strip or tile of a TIFF, however small, takes at least as long as this many pixels of a PNG. Those of an
uncompressed TIFF are read in Python, which holds up other threads too."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded, upright image and its format, one of SIGNATURES; `is_turned`: it is stored in another orientation."""

    image: PillowImage.Image
    format: str
    is_turned: bool


@dataclass(frozen=True, slots=True)
class _Head:
    """A picture whose header has passed the limits: how many `pixels` decoding goes over (see `pixels_to_decode`).

    `size` is its (width, height) as it is stored. `open` gives the picture; it may leave the pixels to Pillow's `load`.
    `orientation` is that of a TIFF's own tag, which the opened picture may have lost.
    """

    size: tuple[int, int]
    pixels: int
    open: Callable[[], PillowImage.Image]
    orientation: object = None


@contextmanager
def pillows_errors() -> Iterator[None]:
    """Turn what Pillow raises in the block into a BadUpload, and silence its warnings and logs.

    Errors of arithmetic, which a file's numbers can cause, become a BadUpload too. A lack of memory is not the fault of
    an upload that has passed the limits, and is raised as it is. So are all other errors of our own code, or of numpy
    in it: they are bugs.
    """
    try:
        with _quiet_pillow:
            yield
    except (BadUpload, MemoryError):
        raise
    except PillowImage.DecompressionBombError as error:
        raise ImageTooLarge("the image is too large to be decoded") from error
    except Exception as error:  # on broken files Pillow raises nearly every kind of error
        if not isinstance(error, ArithmeticError) and not any(name.startswith("PIL.") for name, _ in _way_of(error)):
            raise
        raise DamagedImage(_DAMAGED) from error


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn whatever is raised in the block, other than a lack of memory, into a BadUpload: the bytes may be anything.

    An error that is not Pillow's may be a bug of ours. Its type and place are logged, but not its message, which may
    quote the upload.
    """
    try:
        with pillows_errors():
            yield
    except (BadUpload, MemoryError):
        raise
    except Exception as error:
        *_, (module, line) = _way_of(error)
        logger.info("an image is taken for damaged: %s in %s, line %d", type(error).__name__, module, line)
        raise DamagedImage(_DAMAGED) from error


def _way_of(error: Exception) -> Iterator[tuple[str, int]]:
    """Yield the modules that the error passed, each with its line; the one that raised it comes last."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_globals.get("__name__", ""), line


def open_upload(upload: bytes, max_pixels: int, frame: int | None) -> Opened:
    """Return the picture in `upload`, or the one that `frame` (from 0) picks.

    Raises:
        UnknownImageFormat: the bytes do not begin like any format that is read.
        ImageTooLarge: there are more pixels than `max_pixels`, a side is longer than LONGEST_SIDE, or decoding would
            take work or memory out of proportion to that.
        DamagedImage: the picture is truncated, broken, or of a variety that cannot be read.
        FrameNeeded: there are several frames and `frame` is None, or there is no such frame.
    """
    with typed_errors():
        format_ = _format(upload)
        head = _HEADS[format_](upload, max_pixels, frame)
        image = head.open()
        image.load()
        turn = _TURNS.get(head.orientation if head.orientation in _TURNS else _orientation(image))
        return Opened(image if turn is None else image.transpose(turn), format_, is_turned=turn is not None)


def pixels_to_decode(
    upload: bytes, *, max_pixels: int, frame: int | None = None, tile: tuple[int, int] | None = None
) -> int:
    """Return how many pixels decoding goes over, without decoding any: the picture's own, as often as it takes.

    If a `tile` of (height, width) is given, the padding that fills up the network's tiles counts too: thin pictures
    need much of it.

    The pixels of an animated PNG count for each frame up to the one picked, those of a JPEG, also in a TIFF, for each
    dozen scans. For a TIFF, pixels of tiles beyond the picture count too, and each piece counts as at least some
    hundreds. Kinds that are read several times as slowly as a PNG count that many times. Takes 10 to 300 µs; for a JPEG
    1 to 2 ms a megabyte, for an uncompressed TIFF 2 µs a piece, for a PNG with texts or the like the time to copy it.

    Raises:
        BadUpload: as `open_upload`, for what the header alone shows.
    """
    with typed_errors():
        head = _HEADS[_format(upload)](upload, max_pixels, frame)
        return head.pixels if tile is None else max(head.pixels, _filled_up(head.size, tile))


def _filled_up(size: tuple[int, int], tile: tuple[int, int]) -> int:
    """Return the pixels of a picture padded to at least one tile in each direction; 0 if it fits into one tile."""
    width, height = size
    if height <= tile[0] and width <= tile[1]:
        return 0
    return max(height, tile[0]) * max(width, tile[1])


def _format(upload: bytes) -> str:
    is_dicom = upload[128:132] == b"DICM"  # its first 128 bytes are free, and often make it a TIFF too
    for format_, signatures in SIGNATURES.items():
        if upload.startswith(signatures) and not is_dicom:
            return format_
    advice = "; export the DICOM as PNG or TIFF" if is_dicom else ""
    raise UnknownImageFormat(f"the bytes are no image of a format that is read here: {', '.join(SIGNATURES)}{advice}")


def _pick(frame: int | None, frames: int) -> int:
    """Return the frame to read, from 0."""
    if frame is None and frames == 1:
        return 0
    if frame is None or not 0 <= frame < frames:
        count = "1 frame" if frames == 1 else f"{frames} frames"
        raise FrameNeeded(f"the image has {count}; pick one with frame=, from 0 to {frames - 1}")
    return frame


def _png(upload: bytes, max_pixels: int, frame: int | None) -> _Head:
    upload = png.essential(upload)
    image = PngImagePlugin.PngImageFile(io.BytesIO(upload))
    workload.check_size(image.size, max_pixels)
    picked = _pick(frame, image.n_frames)
    pixels = image.width * image.height * (picked + 1)  # frames build on each other: all before this one are decoded
    if pixels > max_pixels:
        raise ImageTooLarge(f"frame {picked} of the animated PNG needs more pixels decoded than are allowed")

    def open_frame() -> PillowImage.Image:
        png.check_pixels(upload)
        image.seek(picked)
        if image.mode == "P" and (image.palette is None or not image.palette.palette):
            raise DamagedImage("the PNG has no palette for its colours")
        _bring_key_to_eight_bits(image, depth=upload[24])
        image.load()
        check_rows(upload, image)
        return image

    return _Head(image.size, pixels, open_frame)


def _bring_key_to_eight_bits(image: PillowImage.Image, *, depth: int) -> None:
    """Scale the transparent level or colour, which Pillow keeps as the file has it, like the pixels."""
    key = image.info.get("transparency")
    if image.mode == "L" and depth < 8 and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and key is not None:
        image.info["transparency"] = tuple(level >> 8 for level in key)


def _jpeg(upload: bytes, max_pixels: int, frame: int | None) -> _Head:
    first_scan = workload.check_jpeg_header(upload)
    jpeg_pieces.check_tail(upload, first_scan)
    image = _opened_jpeg(upload)
    workload.check_size(image.size, max_pixels)
    pixels, scans = image.width * image.height, _scans_of_jpeg(upload, first_scan)
    workload.check_jpeg_scans(scans, pixels, max_pixels)
    channels = upload[first_scan + 2]
    if "progressive" in image.info or channels < image.layers:
        besides = workload.coefficient_bytes(pixels, [(across, down) for _, across, down, _ in image.layer])
        workload.check_memory(image.mode, pixels, besides, max_pixels)
    _pick(frame, 1)
    return _Head(image.size, pixels * _times_slower(scans), lambda: image)


def _opened_jpeg(upload: bytes) -> JpegImagePlugin.JpegImageFile:
    try:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(upload))
    except SyntaxError as error:
        raise DamagedImage(
            "the JPEG is broken, or of a kind that is not read, such as 12 or 16 bits or JPEG-LS; save it as JPEG of 8"
            " bits, or as PNG"
        ) from error


def _scans_of_jpeg(upload: bytes, first_scan: int) -> int:
    """Return how often decoding goes over the pixels, or a higher number if that makes no difference."""
    scans = workload.count_jpeg_scans(upload)
    return scans if scans <= _SCANS else workload.count_jpeg_scans_to_end(upload, first_scan)


def _times_slower(scans: int) -> int:
    return max(1, -(-scans // _SCANS))


def _tiff(upload: bytes, max_pixels: int, frame: int | None) -> _Head:
    pages = tiff.pages(upload)
    page = pages[_pick(frame, len(pages))]
    upload = tiff.alone(upload, page)
    image = _opened_tiff(upload)
    workload.check_size(image.size, max_pixels)
    tiff.check_tiles(page, image.size, max_pixels)
    pixels, scans = page.pixels_to_decode(*image.size), _scans_of_tiff(upload, image)
    workload.check_jpeg_scans(scans, pixels, max_pixels)
    if image.use_load_libtiff:
        besides = page.piece_pixels(*image.size) * deep_tiff.bytes_a_pixel(image, is_jpeg_buffered=scans > 1)
        workload.check_memory(image.mode, image.width * image.height, besides, max_pixels)
    deep_tiff.name_samples(image)
    ycbcr.check_header(page, image)
    least = page.pieces * (_PIECE_PIXELS if page.is_compressed else _PLAIN_PIECE_PIXELS)
    work = max(pixels * _times_slower(scans), least)
    return _Head(image.size, work, partial(_read_tiff, upload, page, image), image.orientation)


def _read_tiff(upload: bytes, page: tiff.Page, image: deep_tiff.TiffAsStored) -> PillowImage.Image:
    ycbcr.check_pieces(upload, page, image)
    jpeg_pieces.check_ends(upload, image)
    jpeg_pieces.check_sizes(upload, page, image)
    zero_tails.check(upload, page, image)
    return deep_tiff.read(image)


def _opened_tiff(upload: bytes) -> deep_tiff.TiffAsStored:
    try:
        return deep_tiff.TiffAsStored(io.BytesIO(upload))
    except SyntaxError as error:  # Pillow's way to say that it does not know such a file
        raise DamagedImage(
            "the TIFF is broken, or its pixels are stored in a way that is not read; save it as grey or RGB of 8 or 16"
            " bits, uncompressed or deflated"
        ) from error


def _scans_of_tiff(upload: bytes, image: TiffImagePlugin.TiffImageFile) -> int:
    """Return how often decoding goes over the pixels of a TIFF that holds JPEGs, 1 for others."""
    if image.info.get("compression") not in {"jpeg", "tiff_jpeg"}:
        return 1
    tags = image.tag_v2
    offsets = tags.get(TiffImagePlugin.STRIPOFFSETS) or tags.get(TiffImagePlugin.TILEOFFSETS) or (0,)
    most_used = max(Counter(offsets).values())  # this many pieces of the picture may share the same scans
    return -(-workload.count_jpeg_scans(upload) * most_used // len(offsets))


def _bmp(upload: bytes, max_pixels: int, frame: int | None) -> _Head:
    try:
        image = bmp.BmpAsStored(upload)
    except (SyntaxError, OSError) as error:
        raise DamagedImage("the BMP is broken, or of a kind that is not read; save it as PNG") from error
    workload.check_size(image.size, max_pixels)
    pixels = image.width * image.height
    if image.info["compression"] in _BMP_RUN_LENGTHS:
        workload.check_run_length_bmp(upload, pixels)
        _pick(frame, 1)
        runs = len(upload) // 2  # runs may have no pixels
        return _Head(image.size, max(pixels, runs) * _RUN_LENGTHS_SLOWER, partial(_with_every_run, image))
    _pick(frame, 1)
    return _Head(image.size, pixels, lambda: image)


def _with_every_run(image: BmpImagePlugin.BmpImageFile) -> PillowImage.Image:
    try:
        image.load()
    except ValueError as error:  # Pillow fills up what a delta leaves out, but not what an early end does
        raise DamagedImage("the BMP ends before its last row is full; save it uncompressed, or as PNG") from error
    return image


def _netpbm(upload: bytes, max_pixels: int, frame: int | None) -> _Head:
    _pick(frame, 1)
    width, height = netpbm.size(upload)
    workload.check_size((width, height), max_pixels)
    pixels = width * height * (_PLAIN_SLOWER if upload.startswith(netpbm.PLAIN) else 1)
    return _Head((width, height), pixels, partial(netpbm.read, upload, max_pixels))


_TURNS: dict[object, PillowImage.Transpose] = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for."""

_HEADS = {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "BMP": _bmp, "PPM": _netpbm}


def _orientation(image: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 if there is none."""
    image.info.pop("xmp", None)  # Pillow would turn by it; browsers, over whose pictures masks lie, do not
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not fail a sound image, whatever Pillow raises
        return 1
    return orientation if isinstance(orientation, int) else 1

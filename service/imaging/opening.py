"""From an upload's bytes to one Pillow image with its pixels loaded: format, size limit, frames, orientation.

The one place that meets hostile bytes. Formats are told apart by their first bytes and handed to that format's reader
alone. Nothing is decoded before the header's size has passed the limit; Pillow's own, process-wide limit is neither
changed nor relied upon.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import BmpImagePlugin, ExifTags, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import Image as PillowImage

from service.errors import BadUpload, DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging import netpbm, tiff, workload

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "PPM": netpbm.KINDS,
}
"""The formats read, by their first bytes. MPO, as phones write it, is a JPEG whose later pictures are left alone."""

_BMP_RUN_LENGTHS = {BmpImagePlugin.BmpImageFile.COMPRESSIONS[name] for name in ("RLE8", "RLE4")}


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded, upright image and its format, one of SIGNATURES."""

    image: PillowImage.Image
    format: str


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn whatever Pillow raises in the block into a BadUpload, and let none of its warnings out."""
    try:
        with _quiet_pillow:
            yield
    except BadUpload:
        raise
    except (MemoryError, PillowImage.DecompressionBombError) as error:
        raise ImageTooLarge("the image is too large to be decoded") from error
    except Exception as error:  # on broken files Pillow raises nearly every kind there is
        raise DamagedImage("the image is truncated, broken or of a kind that cannot be read") from error


def open_upload(upload: bytes, max_pixels: int, frame: int | None) -> Opened:
    """Return the picture in `upload`, or the one that `frame` (from 0) picks. Call it inside `typed_errors`.

    Raises:
        UnknownImageFormat: the bytes begin like no format that is read.
        ImageTooLarge: more pixels than `max_pixels`, a side longer than LONGEST_SIDE, or decoding would take memory out
            of proportion to that.
        DamagedImage: truncated, broken, or a variety of the format that cannot be read.
        FrameNeeded: several frames and `frame` is None, or there is no such frame.
    """
    format_ = _format(upload)
    image = _OPENERS[format_](upload, max_pixels, frame)
    image.load()
    turn = _TURNS.get(_orientation(image))
    return Opened(image if turn is None else image.transpose(turn), format_)


def _format(upload: bytes) -> str:
    is_dicom = upload[128:132] == b"DICM"  # whose first 128 bytes are free, and often make it a TIFF too
    for format_, signatures in SIGNATURES.items():
        if upload.startswith(signatures) and not is_dicom:
            return format_
    raise UnknownImageFormat(f"the bytes are no image of a format that is read here: {', '.join(SIGNATURES)}")


def _pick(frame: int | None, frames: int) -> int:
    """Return the frame to read, from 0."""
    if frame is None and frames == 1:
        return 0
    if frame is None or not 0 <= frame < frames:
        count = "1 frame" if frames == 1 else f"{frames} frames"
        raise FrameNeeded(f"the image has {count}; pick one with frame=, from 0 to {frames - 1}")
    return frame


def _open_png(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    workload.check_png(upload)
    image = PngImagePlugin.PngImageFile(io.BytesIO(upload))
    workload.check_size(image.size, max_pixels)
    picked = _pick(frame, image.n_frames)
    if image.width * image.height * (picked + 1) > max_pixels:  # frames build on each other: all before it are decoded
        raise ImageTooLarge(f"frame {picked} of the animated PNG needs more pixels decoded than are allowed")
    image.seek(picked)
    return image


def _open_jpeg(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    workload.check_jpeg_header(upload)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(upload))
    workload.check_size(image.size, max_pixels)
    workload.check_jpeg_scans(upload, image.width * image.height, max_pixels)
    _pick(frame, 1)
    return image


def _open_tiff(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    pages = tiff.pages(upload)
    page = pages[_pick(frame, len(pages))]
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(tiff.alone(upload, page, max_pixels)))
    workload.check_size(image.size, max_pixels)
    return image


def _open_bmp(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(upload))
    workload.check_size(image.size, max_pixels)
    if image.info["compression"] in _BMP_RUN_LENGTHS:
        workload.check_run_length_bmp(upload, image.width * image.height)
    _pick(frame, 1)
    return image


def _open_netpbm(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    _pick(frame, 1)
    return netpbm.read(upload, max_pixels)


_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for."""

_OPENERS = {"PNG": _open_png, "JPEG": _open_jpeg, "TIFF": _open_tiff, "BMP": _open_bmp, "PPM": _open_netpbm}


def _orientation(image: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 if there is none; Pillow has applied TIFF's by now."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not fail a sound image, whatever Pillow makes of it
        return 1
    return orientation if isinstance(orientation, int) else 1


class _QuietPillow:
    """Ignores Pillow's warnings while at least one thread is inside.

    Filters are the process's, so two threads that each used `warnings.catch_warnings` could restore them in the wrong
    order, for good. Here the first to enter changes them, and the last to leave puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()

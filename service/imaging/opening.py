"""From an upload's bytes to one Pillow image with its pixels loaded: format, size limit, frames, orientation.

The one place that meets hostile bytes. Formats are told apart by their first bytes and handed to that format's reader
alone. Nothing is decoded before the header's size has passed the limit; Pillow's own, process-wide limit is neither
changed nor relied upon.
"""

import io
import threading
import warnings
from dataclasses import dataclass

from PIL import BmpImagePlugin, ExifTags, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import Image as PillowImage

from service.errors import BadUpload, DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging import netpbm, tiff

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "PPM": netpbm.KINDS,
}
"""The formats read, by their first bytes. MPO, as phones write it, is a JPEG whose later pictures are left alone."""

_MOST_JPEG_SCANS = 50
"""How often a progressive JPEG of the largest allowed size may go over its pixels; encoders use about ten scans."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded image as it is stored, its format (one of SIGNATURES), and the EXIF orientation (1 to 8) to apply."""

    image: PillowImage.Image
    format: str
    orientation: int


def open_upload(upload: bytes, max_pixels: int, frame: int | None) -> Opened:
    """Return the picture in `upload`, or the one that `frame` (from 0) picks.

    Raises:
        UnknownImageFormat: the bytes begin like no format that is read.
        ImageTooLarge: more pixels than `max_pixels`, or decoding would take memory out of proportion to it.
        DamagedImage: truncated, broken, or a variety of the format that cannot be read.
        FrameNeeded: several frames and `frame` is None, or there is no such frame.
    """
    format_ = _format(upload)
    try:
        with _quiet_pillow:
            image = _OPENERS[format_](upload, max_pixels, frame)
            image.load()
            return Opened(image, format_, _orientation(image))
    except BadUpload:
        raise
    except (MemoryError, PillowImage.DecompressionBombError) as error:
        raise ImageTooLarge(f"the {format_} is too large to be decoded") from error
    except Exception as error:  # on broken files Pillow raises nearly every kind there is
        raise DamagedImage(f"the {format_} is truncated, broken or of a kind that cannot be read") from error


def _format(upload: bytes) -> str:
    is_dicom = upload[128:132] == b"DICM"  # whose first 128 bytes are free, and often make it a TIFF too
    for format_, signatures in SIGNATURES.items():
        if upload.startswith(signatures) and not is_dicom:
            return format_
    raise UnknownImageFormat(f"the bytes are no image of a format that is read here: {', '.join(SIGNATURES)}")


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DamagedImage("the image has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} × {height} pixels; at most {max_pixels / 1e6:g} megapixels are allowed"
        )


def _pick(frame: int | None, frames: int) -> int:
    """Return the frame to read, from 0."""
    if frame is None and frames == 1:
        return 0
    if frame is None or not 0 <= frame < frames:
        count = "1 frame" if frames == 1 else f"{frames} frames"
        raise FrameNeeded(f"the image has {count}; pick one with frame=, from 0 to {frames - 1}")
    return frame


def _open_png(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    image = PngImagePlugin.PngImageFile(io.BytesIO(upload))
    _check_size(image.size, max_pixels)
    picked = _pick(frame, image.n_frames)
    if image.width * image.height * (picked + 1) > max_pixels:  # frames build on each other: all before it are decoded
        raise ImageTooLarge(f"frame {picked} of the animated PNG needs more pixels decoded than are allowed")
    image.seek(picked)
    return image


def _open_jpeg(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(upload))
    _check_size(image.size, max_pixels)
    _pick(frame, 1)
    scans = upload.count(b"\xff\xda")
    if scans * image.width * image.height > _MOST_JPEG_SCANS * max_pixels:
        raise ImageTooLarge(f"the JPEG goes over its pixels {scans} times: more work than is allowed")
    return image


def _open_tiff(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    pages = tiff.pages(upload)
    page = pages[_pick(frame, len(pages))]
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(tiff.alone(upload, page, max_pixels)))
    _check_size(image.size, max_pixels)
    return image


def _open_bmp(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(upload))
    _check_size(image.size, max_pixels)
    _pick(frame, 1)
    return image


def _open_netpbm(upload: bytes, max_pixels: int, frame: int | None) -> PillowImage.Image:
    _pick(frame, 1)
    return netpbm.read(upload, max_pixels)


_OPENERS = {"PNG": _open_png, "JPEG": _open_jpeg, "TIFF": _open_tiff, "BMP": _open_bmp, "PPM": _open_netpbm}


def _orientation(image: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 to 8; TIFF's has been applied by Pillow by now."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not fail a sound image, whatever Pillow makes of it
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


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

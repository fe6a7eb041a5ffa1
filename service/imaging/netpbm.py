"""Read Netpbm pictures: PBM (P1, P4), PGM (P2, P5), PPM (P3, P6) and grey PFM (Pf).

Pillow reads them too, but if the largest value is not 255 or 65535 (12-bit PGM, say), it does so pixel by pixel in
Python, holding the interpreter lock. NumPy takes a hundredth of the time.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.errors import DamagedImage
from service.imaging.workload import check_size

PLAIN = (b"P1", b"P2", b"P3")
"""The kinds whose samples are text."""

KINDS = (*PLAIN, b"P4", b"P5", b"P6", b"Pf")
_GAP = rb"(?:\s|#[^\r\n]*+[\r\n])++"
_WHOLE_NUMBER = re.compile(_GAP + rb"(\d{1,9}+)(?=[\s#])")
_REAL_NUMBER = re.compile(_GAP + rb"([-+.0-9eE]{1,30}+)(?=[\s#])")
_END = re.compile(rb"\s|#[^\r\n]*+[\r\n]")
"""What ends the header: one byte, or, if a comment comes right behind the last number, that with its line end."""

_WHITESPACE = b" \t\n\r\v\f"
_MARKED = bytes.maketrans(b"123456789" + _WHITESPACE, b"0" * 9 + b" " * len(_WHITESPACE))
"""Turns each number into a run of 0, and each gap into a run of spaces."""

_MOST_COMMENTS = 10_000
_MOST_HEADER_BYTES = 64 * 1024
"""Most bytes of comments and space before each number. Searching them holds the interpreter lock."""


@dataclass(frozen=True, slots=True)
class _Header:
    """The picture's kind and size; `largest` is the level of white (PFM: the scale); pixels begin at `start`."""

    kind: bytes
    width: int
    height: int
    largest: float
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sample array."""
        return (self.height, self.width, 3) if self.kind in {b"P3", b"P6"} else (self.height, self.width)


def size(upload: bytes) -> tuple[int, int]:
    """Return the width and height that the header of `upload`, which begins with one of KINDS, declares.

    Raises:
        DamagedImage: the header makes no sense.
    """
    header = _header(upload)
    return header.width, header.height


def read(upload: bytes, max_pixels: int) -> PillowImage.Image:
    """Return the first picture in `upload`, which begins with one of KINDS, in mode L, RGB, I;16 or F.

    Levels are scaled from the largest that the header declares to 8 bits, and those above 0 stay above 0, as masks of 0
    and 1 need. Grey pictures that declare full 16 bits, and PFM, keep their levels.

    Raises:
        ImageTooLarge: there are more pixels than `max_pixels`, or a side is longer than LONGEST_SIDE.
        DamagedImage: the header makes no sense, or pixels are missing.
    """
    header = _header(upload)
    check_size((header.width, header.height), max_pixels)
    if header.kind == b"Pf":
        rows_upwards = _raster(upload, header, "<f4" if header.largest < 0 else ">f4")
        return PillowImage.fromarray(np.ascontiguousarray(rows_upwards[::-1].astype(np.float32)))
    if header.kind in {b"P1", b"P4"}:
        return PillowImage.fromarray(_bits(upload, header))
    return PillowImage.fromarray(_levels(upload, header))


def _header(upload: bytes) -> _Header:
    kind = upload[:2]
    width, at = _number(_WHOLE_NUMBER, upload, 2)
    height, at = _number(_WHOLE_NUMBER, upload, at)
    largest = 1.0
    if kind not in {b"P1", b"P4"}:
        largest, at = _number(_REAL_NUMBER if kind == b"Pf" else _WHOLE_NUMBER, upload, at)
    sane = math.isfinite(largest) and largest != 0 if kind == b"Pf" else 1 <= largest <= 65535
    end = _END.match(upload, at, at + _MOST_HEADER_BYTES)
    if not (width >= 1 and height >= 1 and sane and end):  # a number that cannot be read is NaN, and fails these tests
        raise DamagedImage("the Netpbm image has a header that makes no sense")
    return _Header(kind, int(width), int(height), largest, end.end())


def _number(pattern: re.Pattern[bytes], upload: bytes, at: int) -> tuple[float, int]:
    """Return the header's next number, NaN if it cannot be read, and where it ends."""
    match = pattern.match(upload, at, at + _MOST_HEADER_BYTES)
    try:
        return float(match[1]) if match else math.nan, match.end() if match else at
    except ValueError:
        return math.nan, at


def _raster(upload: bytes, header: _Header, dtype: str) -> NDArray[Any]:
    """Return the binary samples, of `dtype`, in the header's shape.

    One byte ends the header. If it is the first of a Windows line end, and there is exactly one byte too many, two do.
    """
    count = math.prod(header.shape)
    beyond = len(upload) - header.start - count * np.dtype(dtype).itemsize
    if beyond < 0:
        raise DamagedImage("the Netpbm image is cut short: pixels are missing")
    start = header.start + (beyond == 1 and upload[header.start - 1 : header.start + 1] == b"\r\n")
    return np.frombuffer(upload, dtype, count, start).reshape(header.shape)


def _plain(upload: bytes, header: _Header, alphabet: bytes) -> bytes:
    """Return the text of a plain picture's samples without comments."""
    text = upload[header.start :]
    if text.count(b"#") > _MOST_COMMENTS:
        raise DamagedImage("the plain Netpbm image has more comments than any program writes")
    text = re.sub(rb"#[^\r\n]*+", b"", text)
    if text.translate(None, alphabet + _WHITESPACE):
        raise DamagedImage("the plain Netpbm image holds something else than numbers")
    return text


def _bits(upload: bytes, header: _Header) -> NDArray[np.uint8]:
    """Return a PBM as uint8 (H, W) of 0 and 255; in the file, 1 is black."""
    if header.kind == b"P1":
        digits = _plain(upload, header, b"01").translate(None, _WHITESPACE)
        white = _raster(digits, replace(header, start=0), "u1") == ord("0")
    else:
        packed = _raster(upload, replace(header, width=-(-header.width // 8)), "u1")
        white = np.unpackbits(packed, axis=1, count=header.width) == 0
    return np.where(white, np.uint8(255), np.uint8(0))


def _levels(upload: bytes, header: _Header) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the samples of a PGM or PPM, scaled to uint8, or as they are if they are grey and 16 bits deep.

    Of colours of 16 bits, the upper byte is returned, as in other formats, unless all of it would be 0.
    """
    largest = int(header.largest)
    if header.kind in {b"P2", b"P3"}:
        samples = _plain_levels(upload, header)
    else:
        samples = _raster(upload, header, ">u2" if largest > 255 else "u1")
    if largest == 65535 and samples.ndim == 2:
        return samples.astype(np.uint16)
    if largest == 65535 and (upper := (samples >> 8).astype(np.uint8)).any():
        return upper
    scaled = np.minimum((np.arange(65536) * 255 + largest // 2) // largest, 255).astype(np.uint8)
    scaled[1:] = np.maximum(scaled[1:], 1)
    return scaled[samples]


def _plain_levels(upload: bytes, header: _Header) -> NDArray[np.int64]:
    """Return the samples of a plain PGM or PPM; those above 65535 become 65535."""
    text = _plain(upload, header, b"0123456789")
    count = math.prod(header.shape)
    if _numbers_in(text) < count:  # checked first: for missing numbers NumPy leaves what was in memory
        raise DamagedImage("the Netpbm image is cut short: pixels are missing")
    samples = np.fromstring(text, np.int64, count, sep=" ")
    return np.clip(samples, 0, 65535, out=samples).reshape(header.shape)


def _numbers_in(text: bytes) -> int:
    """Return how many numbers a text of digits and whitespace contains."""
    marked = text.translate(_MARKED)
    return marked.count(b" 0") + marked.startswith(b"0")

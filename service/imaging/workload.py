"""Refuse small files that would take minutes to decode, or memory out of proportion to their pixels.

Pillow goes through the header of a JPEG, and all of a run-length coded BMP, in Python, byte by byte or piece by piece.
A sound file has few pieces; a few megabytes of empty ones keep a processor busy for minutes. The checks here stop
early.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from service.errors import DamagedImage, ImageTooLarge

LONGEST_SIDE = 65_535
"""In pixels; no JPEG can have more. Resizing, and padding to the network's grid, also cost memory in proportion to a
side: an image of one row and 40 megapixels, a PNG of 40 kB, would be padded to hundreds of rows of as many columns."""

_MOST_JPEG_SEGMENTS = 10_000
_MOST_JPEG_JUNK_BYTES = 10_000

_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_TAKEN_APART = {
    0xE1: (b"Exif\0\0", 1 << 18),
    0xED: (b"Photoshop 3.0\0", 1 << 20),
    0xDB: (b"", 1 << 16),
    **dict.fromkeys(_FRAMES, (b"", 1 << 10)),
}
"""The segments, by marker, whose content Pillow parses: how the content begins, and how many bytes there may be in all.
Exif belongs in one segment of at most 64 KiB; four quantisation tables (DB) have 516 bytes, and the one frame 20."""

_MOST_JPEG_SCANS = 50
"""How many scans a JPEG of the largest allowed size may have; encoders of progressive ones use about ten."""

_BYTES_A_PIXEL = 10
"""Memory that decoding may take for each pixel of the largest allowed size: a colour picture as Pillow keeps it, and 6
bytes more."""

_COEFFICIENT_BYTES = 2
"""Memory for each sample of a JPEG of several scans, until the last scan is read."""

_LARGEST_RLE = 4_000_000
"""Largest run-length coded BMP, in pixels and in bytes."""

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
"""Pillow takes what follows these markers for junk, although those of extensions, such as JPEG-LS, do have a length."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

_IS_MARKER = np.isin(np.arange(256), [*range(0xC0, 0xD0), *range(0xD9, 0xFF)])
"""For each byte that may follow 0xFF, whether libjpeg heeds it as a marker behind the first scan's header. It skips
others, such as restarts, or gives up at them; a 0 makes 0xFF a part of the pixels, and another 0xFF is a filler."""

_MOST_JPEG_MARKERS = 10_000
"""Most markers behind the first scan's header; a progressive JPEG has some dozens."""

_SEARCHED_BYTES = 1 << 18
"""Bytes searched at a time, so that memory for what is found stays small."""


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageTooLarge if a header's `size` (width, height) is more than is allowed, DamagedImage if it is empty."""
    width, height = size
    if width < 1 or height < 1:
        raise DamagedImage("the image has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} × {height} pixels; at most {max_pixels / 1e6:g} megapixels are allowed"
        )
    if max(size) > LONGEST_SIDE:
        raise ImageTooLarge(f"the image has {width} × {height} pixels; at most {LONGEST_SIDE} a side are allowed")


def check_memory(mode: str, pixels: int, besides: float, max_pixels: int) -> None:
    """Raise ImageTooLarge if decoding takes more memory than is allowed.

    It holds, at the same time, a picture of this many `pixels` of Pillow's `mode`, and `besides` bytes.
    """
    loaded = 1 if mode in {"1", "L", "P"} else 2 if mode.startswith("I;16") else 4
    if pixels * loaded + besides > _BYTES_A_PIXEL * max_pixels:
        raise ImageTooLarge(
            "the image takes more memory to decode than is allowed: save a TIFF in smaller strips or tiles, a JPEG"
            " without progression"
        )


def check_jpeg_header(upload: bytes) -> int:
    """Return where the first scan's header begins, behind its marker, or the length of a JPEG without a scan.

    Raises:
        DamagedImage: it has more segments, more metadata, or more bytes outside of segments, than any encoder writes.
    """
    at, junk, taken_apart = 2, 0, Counter[int]()
    for _ in range(_MOST_JPEG_SEGMENTS):
        behind_junk = at + _MOST_JPEG_JUNK_BYTES + 2
        marker = _MARKER.search(upload, at, behind_junk)
        if marker is None:
            if behind_junk < len(upload):
                break
            return len(upload)
        if upload[marker.end() - 1] == _START_OF_SCAN:
            return marker.end()
        junk += marker.end() - 2 - at
        at = marker.end()
        kind = upload[at - 1]
        length = 0 if kind in _MARKERS_WITHOUT_LENGTH else _length(upload, at)
        beginning, most = _TAKEN_APART.get(kind, (b"", math.inf))
        if upload.startswith(beginning, at + 2):
            taken_apart[kind] += length
        if junk > _MOST_JPEG_JUNK_BYTES or taken_apart[kind] > most:
            break
        at += length
    raise DamagedImage("the JPEG has a header with too much that is no part of a picture")


def coefficient_bytes(pixels: int, sampling: Sequence[tuple[int, int]]) -> float:
    """Return how much memory the coefficients of a JPEG of several scans take.

    `sampling` are the factors, across and down, of each channel.
    """
    samples = sum(across * down for across, down in sampling)
    largest = max(across for across, _ in sampling) * max(down for _, down in sampling)
    return _COEFFICIENT_BYTES * pixels * samples / largest


def count_jpeg_scans(upload: bytes) -> int:
    """Return how many scans a JPEG, or all JPEGs of a TIFF together, have: how often decoding goes over the pixels."""
    return upload.count(bytes([0xFF, _START_OF_SCAN]))


def count_jpeg_scans_to_end(upload: bytes, first_scan: int) -> int:
    """Return how many scans a JPEG has up to its end marker; the first one's header begins at `first_scan`.

    Behind it other bytes may lie, such as the video of a phone's motion photo, and look like scans here and there.
    Takes about 1 ms a megabyte. If there are more markers than any encoder writes, everything that looks like a scan
    counts.
    """
    scans, behind = 1, first_scan + _length(upload, first_scan)
    for count, at in enumerate(_markers(upload, behind)):
        if count == _MOST_JPEG_MARKERS:
            return count_jpeg_scans(upload)
        if at < behind:  # within a segment: an end marker in a comment does not count
            continue
        kind = upload[at + 1]
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        behind = at + 2 + _length(upload, at + 2)
    return scans


def _length(upload: bytes, at: int) -> int:
    """Return the length of a JPEG's segment, as given in its first two bytes, which it includes."""
    return max(2, int.from_bytes(upload[at : at + 2]))


def _markers(upload: bytes, first: int) -> Iterator[int]:
    """Yield, from `first` on, the positions of what looks like a marker that libjpeg heeds in a JPEG."""
    for start in range(first, len(upload) - 1, _SEARCHED_BYTES):
        piece = np.frombuffer(upload, np.uint8, min(_SEARCHED_BYTES + 1, len(upload) - start), start)
        found = np.flatnonzero(piece[:-1] == 0xFF)
        yield from (start + found[_IS_MARKER[piece[found + 1]]]).tolist()


def check_jpeg_scans(scans: int, pixels: int, max_pixels: int) -> None:
    """Raise ImageTooLarge if a JPEG goes over its `pixels` too often for a limit of `max_pixels`."""
    if scans * pixels > _MOST_JPEG_SCANS * max_pixels:
        raise ImageTooLarge(f"the JPEG goes over its pixels {scans} times: more work than is allowed")


def check_run_length_bmp(upload: bytes, pixels: int) -> None:
    """Raise ImageTooLarge if a run-length coded BMP, of `pixels`, is larger than is read."""
    if max(pixels, len(upload)) > _LARGEST_RLE:
        raise ImageTooLarge(
            f"run-length coded BMP are read up to {_LARGEST_RLE / 1e6:g} megapixels; save it uncompressed"
        )

"""Images that cost more than they seem to, that are odd, or that are none: what a hostile or careless caller uploads.

All are drawn here, and all are shorter than a MiB; a bomb would inflate to a quarter of a GiB if somebody let it.
"""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 2000
LIMIT_PIXELS = SIDE * SIDE
"""The pixel limit for which these are drawn: those `at the limit` have just as many, the bombs more."""

INFLATED_MIB = 256
"""What a bomb inflates to."""

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@cache
def bomb(wbits: int = zlib.MAX_WBITS) -> bytes:
    """Return zeros without end, in zlib's format or (31) gzip's."""
    compressor = zlib.compressobj(wbits=wbits)
    mebibyte = bytes(2**20)
    return b"".join([*(compressor.compress(mebibyte) for _ in range(INFLATED_MIB)), compressor.flush()])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width: int, height: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join([PNG_HEAD, chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def pixels(data: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(data))


def with_chunk(name: bytes, data: bytes) -> bytes:
    """Return a sound, small PNG with one more chunk before its pixels."""
    return raw_png(64, 64, 8, 0, chunk(name, data), pixels(bytes(64 * 65)))


def saved(image: Image.Image | NDArray[Any], format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format_, **options)
    return buffer.getvalue()


def noise(height: int, width: int, *channels: int, high: int = 256, dtype: type = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, high, (height, width, *channels)).astype(dtype)


def floats_with_nan() -> NDArray[np.float32]:
    levels = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    levels[::2, ::3] = np.nan
    levels[0, :3] = np.inf, -np.inf, 3e38
    return levels


def tagged_tiff(image: Image.Image, changes: dict[int, Any], **options: Any) -> bytes:
    """Return a TIFF of `image` with tags overwritten in place: (type, count, value) each, the value inline."""
    upload = bytearray(saved(image, "TIFF", **options))
    (offset,) = struct.unpack_from("<I", upload, 4)
    (count,) = struct.unpack_from("<H", upload, offset)
    for at in range(offset + 2, offset + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", upload, at)
        if tag in changes:
            struct.pack_into("<HII", upload, at + 2, *changes[tag])
    return bytes(upload)


def one_strip_again_and_again() -> bytes:
    """Return a TIFF at the pixel limit whose thousand strips all are the same few bytes, which inflate to many rows."""
    strip = zlib.compress(bytes(SIDE * SIDE))
    strips, start = 1000, 8 + len(strip)
    offsets, counts = struct.pack(f"<{strips}I", *[8] * strips), struct.pack(f"<{strips}I", *[len(strip)] * strips)
    at = start + len(offsets) + len(counts)
    tags = [
        (256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (273, 4, strips, start), (277, 3, 1, 1), (278, 4, 1, SIDE // strips), (279, 4, strips, start + len(offsets)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", at) + strip + offsets + counts + directory


def strips_of_one_pixel(count: int) -> bytes:
    """Return an uncompressed TIFF of one column, each pixel of which is a strip of its own, at the same place."""
    start = 10
    offsets, counts = struct.pack(f"<{count}I", *[8] * count), struct.pack(f"<{count}H", *[1] * count)
    at = start + len(offsets) + len(counts)
    tags = [
        (256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, count, start), (277, 3, 1, 1), (278, 4, 1, 1), (279, 3, count, start + len(offsets)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", at) + b"\x63\0" + offsets + counts + directory


def one_deep_tile() -> bytes:
    """Return a TIFF at the pixel limit, 16-bit CMYK in one tile and lying on its side."""
    tile = zlib.compress(bytes(8 * SIDE * SIDE))
    tags = [
        (256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 4, 8), (259, 3, 1, 8), (262, 3, 1, 5), (274, 3, 1, 6),
        (277, 3, 1, 4), (322, 4, 1, SIDE), (323, 4, 1, SIDE), (324, 4, 1, 16), (325, 4, 1, len(tile)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I4H", 16 + len(tile), *[16] * 4) + tile + directory


def circular_tiff() -> bytes:
    upload = bytearray(saved(noise(8, 8), "TIFF"))
    (offset,) = struct.unpack_from("<I", upload, 4)
    (count,) = struct.unpack_from("<H", upload, offset)
    struct.pack_into("<I", upload, offset + 2 + 12 * count, offset)
    return bytes(upload)


def many_scans() -> bytes:
    """Return a progressive JPEG at the pixel limit that goes over its pixels hundreds of times."""
    upload = saved(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, quality=1)
    scan = upload.rindex(b"\xff\xda")
    return upload[:scan] + upload[scan:-2] * 500 + upload[-2:]


def declared_jpeg(width: int, height: int) -> bytes:
    upload = saved(noise(16, 16, 3), "JPEG")
    at = upload.index(b"\xff\xc0") + 5
    return upload[:at] + struct.pack(">HH", height, width) + upload[at + 4 :]


def flat_png(width: int, height: int) -> bytes:
    return saved(Image.new("L", (width, height), 90), "PNG")


SMALL = Image.fromarray(noise(64, 64, 3))
LARGE = Image.new("RGBA", (SIDE, SIDE), (9, 200, 7, 99))
DEFLATE = {"compression": "tiff_adobe_deflate"}

IMAGES: dict[int, dict[str, Callable[[], bytes]]] = {
    200: {
        "PNG bomb: small header, more pixels than it says": lambda: raw_png(64, 64, 8, 2, chunk(b"IDAT", bomb())),
        "PNG of 16-bit RGBA at the limit": lambda: raw_png(SIDE, SIDE, 16, 6, pixels(bytes(SIDE * (8 * SIDE + 1)))),
        "PNG of 16-bit grey": lambda: saved(noise(64, 64, high=2**16, dtype=np.uint16), "PNG"),
        "PNG of one row": lambda: flat_png(65_000, 1),
        "PNG of one column": lambda: flat_png(1, 65_000),
        "PNG of one pixel": lambda: flat_png(1, 1),
        "JPEG of CMYK": lambda: saved(SMALL.convert("CMYK"), "JPEG"),
        "JPEG of one row": lambda: saved(Image.new("RGB", (65_000, 1)), "JPEG"),
        "JPEG bomb: header at the limit": lambda: declared_jpeg(SIDE, SIDE),
        "TIFF of CMYK": lambda: saved(SMALL.convert("CMYK"), "TIFF"),
        "TIFF of 16-bit grey": lambda: saved(noise(64, 64, high=2**16, dtype=np.uint16), "TIFF"),
        "TIFF of floats with NaN": lambda: saved(floats_with_nan(), "TIFF"),
        "TIFF of floats at the limit": lambda: saved(np.zeros((SIDE, SIDE), np.float32), "TIFF", **DEFLATE),
        "TIFF of RGBA at the limit": lambda: saved(LARGE, "TIFF", **DEFLATE),
        "TIFF bomb: one strip a thousand times": one_strip_again_and_again,
        "TIFF bomb: as many strips as are read": lambda: strips_of_one_pixel(2**14),
        "TIFF bomb: pages in a circle": circular_tiff,
        "TIFF bomb: pages without end": lambda: saved(SMALL, "TIFF") + bytes(2**19),
    },
    413: {
        "PNG bomb: huge header, pixels to match": lambda: raw_png(60_000, 60_000, 1, 0, chunk(b"IDAT", bomb())),
        "PNG bomb: negative size": lambda: raw_png(2**32 - 1, 2**32 - 1, 8, 2, pixels(b"")),
        "PNG of one row at the limit": lambda: flat_png(LIMIT_PIXELS, 1),
        "PNG of one column at the limit": lambda: flat_png(1, LIMIT_PIXELS),
        "JPEG bomb: huge header": lambda: declared_jpeg(65_000, 65_000),
        "JPEG bomb: many scans": many_scans,
        "TIFF bomb: beyond the limit": lambda: saved(Image.new("1", (60_000, 3_000)), "TIFF", compression="group4"),
        "TIFF bomb: one deep tile, turned": one_deep_tile,
        "TIFF bomb: huge size": lambda: tagged_tiff(SMALL, {256: (4, 1, 2**31), 257: (4, 1, 2**31)}),
        "BMP bomb: huge header": lambda: (
            saved(SMALL, "BMP")[:18] + struct.pack("<ii", 2**30, 2**30) + saved(SMALL, "BMP")[26:]
        ),
        "PGM bomb: huge header": lambda: b"P5 999999999 999999999 255\n",
    },
    415: {
        "nothing": lambda: b"",
        "text": lambda: b"<html>" * 1000,
        "gzip of a PNG": lambda: zlib.compress(saved(SMALL, "PNG"), wbits=31),
        "gzip bomb": lambda: bomb(wbits=31),
    },
    422: {
        "a JPEG that ends early": lambda: saved(SMALL, "JPEG")[:-200],
        "a PNG that ends early": lambda: saved(SMALL, "PNG")[:500],
        "a TIFF that ends early": lambda: saved(SMALL, "TIFF", **DEFLATE)[:-50],
        "PNG bomb: no size": lambda: raw_png(0, 0, 8, 2, pixels(b"")),
        "PNG bomb: colour profile": lambda: with_chunk(b"iCCP", b"icc\0\0" + bomb()),
        "PNG bomb: text": lambda: with_chunk(b"zTXt", b"note\0\0" + bomb()),
        "PNG bomb: international text": lambda: with_chunk(b"iTXt", b"note\0\1\0\0\0" + bomb()),
        "PNG bomb: a chunk longer than the file": lambda: PNG_HEAD + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(50),
        "PNG bomb: 2^31 frames": lambda: with_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        "TIFF of nothing but NaN": lambda: saved(np.full((64, 64), np.nan, np.float32), "TIFF"),
        "TIFF bomb: size at the limit, no pixels": lambda: tagged_tiff(
            SMALL, {256: (4, 1, SIDE), 257: (4, 1, SIDE)}, **DEFLATE
        ),
        "TIFF bomb: more strips than are read": lambda: strips_of_one_pixel(65_535),
        "TIFF bomb: a billion strips": lambda: tagged_tiff(SMALL, {273: (4, 10**9, 8), 279: (4, 10**9, 8)}),
        "TIFF bomb: samples without end": lambda: tagged_tiff(SMALL, {277: (3, 1, 65_535)}),
        "PGM bomb: header at the limit": lambda: b"P2 %d %d 65535\n" % (SIDE, SIDE) + b"1 " * 1000,
        "PFM of NaN": lambda: b"Pf 8 8 -1.0\n" + np.full(64, np.nan, "<f4").tobytes(),
    },
}
"""How to draw each, by its name, under the status of the answer that it deserves."""

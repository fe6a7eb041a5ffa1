"""Uploads for the misbehaviour cases: flat pictures, known by their colour, and bodies that are no pictures."""

import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from peers.fake_engine import Colour

GOOD: Colour = (10, 200, 30)


def flat(colour: Colour, file_format: str = "PNG") -> bytes:
    """Return a picture of 64 × 64 pixels of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, file_format)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Malformed:
    """A request that cannot be answered with a mask: `body`, and header fields that differ from a sound request's.

    With `ends_early` the caller sends no more after the body, whatever length was announced.
    """

    name: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    ends_early: bool = False


def malformed() -> list[Malformed]:
    """Return a dozen and more of them."""
    png, jpeg = flat(GOOD), flat(GOOD, "JPEG")
    signature = png[:8]
    return [
        Malformed("empty", b""),
        Malformed("text", b"this is no image"),
        Malformed("JSON", b'{"image": null}', (("Content-Type", "application/json"),)),
        Malformed("truncated PNG", png[: len(png) // 2]),
        Malformed("truncated JPEG", jpeg[: len(jpeg) // 2]),
        Malformed("PNG signature alone", signature),
        Malformed("PNG with a wrong checksum", png[:40] + bytes([png[40] ^ 255]) + png[41:]),
        Malformed("PNG bomb", signature + _header(30_000, 30_000) + _chunk(b"IDAT", zlib.compress(bytes(1000)))),
        Malformed("PNG of 0 × 0", signature + _header(0, 0) + _chunk(b"IEND", b"")),
        Malformed("random bytes", bytes(range(256)) * 16),
        Malformed("GIF", flat(GOOD, "GIF")),
        Malformed("multipart without a boundary", png, (("Content-Type", "multipart/form-data"),)),
        Malformed("Content-Length too large", png, (("Content-Length", str(2 * len(png))),), ends_early=True),
        Malformed("Content-Length negative", png, (("Content-Length", "-1"),)),
        Malformed("Content-Length no number", png, (("Content-Length", "many"),)),
        Malformed("chunks that are none", b"zz\r\n" + png, (("Transfer-Encoding", "chunked"),)),
    ]


def _header(width: int, height: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

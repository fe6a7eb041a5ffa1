"""Small pictures of every kind that is decoded, drawn and encoded for the tests, and ways to damage their bytes."""

import io
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(height: int, width: int, *channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return uint8 (height, width, *channels): a gradient with noise, so that it compresses, but not to nothing."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(height), np.arange(width)) % 200
    shape = (height, width, *channels)
    spread = slope.reshape(height, width, *(1 for _ in channels))
    return (np.broadcast_to(spread, shape) + rng.integers(0, 56, shape)).astype(np.uint8)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    """Return the bytes of `image` in one of Pillow's formats."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def rgb_png(height: int = 24, width: int = 31) -> bytes:
    return encoded(Image.fromarray(noise(height, width, 3)), "PNG")


def samples(seed: int) -> dict[str, list[bytes]]:
    """Return pictures of each format in many varieties, all about 40 × 30 pixels."""
    colour = Image.fromarray(noise(30, 41, 3, seed=seed))
    grey = colour.convert("L")
    deep = Image.fromarray(noise(30, 41, seed=seed).astype(np.uint16) * 13)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": [
            *(encoded(colour.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
            encoded(deep, "PNG"),
            encoded(colour, "PNG", exif=exif, icc_profile=b"profile" * 40),
            encoded(colour, "PNG", save_all=True, append_images=[colour.rotate(90), colour.rotate(180)]),
        ],
        "jpeg": [
            *(encoded(colour.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")),
            encoded(colour, "JPEG", progressive=True, exif=exif),
            encoded(colour, "MPO", save_all=True, append_images=[colour.rotate(180)]),
        ],
        "tiff": [
            *(encoded(colour.convert(mode), "TIFF") for mode in ("1", "P", "RGBA", "CMYK", "LAB", "F", "I")),
            *(encoded(colour, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
            encoded(colour, "TIFF", compression="jpeg"),
            encoded(colour.convert("1"), "TIFF", compression="group4"),
            encoded(deep, "TIFF", compression="tiff_lzw"),
            encoded(colour, "TIFF", save_all=True, append_images=[grey, deep]),
            encoded(colour, "TIFF", exif=exif, big_tiff=True),
        ],
        "bmp": [encoded(colour.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")],
        "ppm": [
            *(encoded(image, "PPM") for image in (colour, grey, deep, grey.convert("1"), grey.convert("F"))),
            b"P2 # plain\n3 2\n15\n0 1 2\n# half way\n3 14 15\n",
            b"P3 1 2 300 0 150 300 9 9 9",
            b"P1\n5 2\n01010\n1 0 1 0 1",
            b"P5\n41 30\n4095\n" + (noise(30, 41, seed=seed).astype(">u2") * 16).tobytes(),
        ],
    }


def damage(upload: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return `upload` after one of the accidents that files have: flipped bits, a cut, a hole, a splice, a repeat."""
    at, to = sorted(rng.randrange(len(upload) + 1) for _ in range(2))
    accidents: list[Callable[[], bytes]] = [
        lambda: _flipped(upload, len(upload), rng.choice((1, 1, 3, 20)), rng),
        lambda: _flipped(upload, 64, rng.choice((1, 2)), rng),
        lambda: upload[:at],
        lambda: upload[:at] + upload[to:],
        lambda: upload[:at] + rng.randbytes(to - at) + upload[to:],
        lambda: upload[:at] + other[at:],
        lambda: upload[:to] + upload[at:],
        lambda: upload[:at] + rng.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff")) + upload[at + 4 :],
    ]
    return rng.choice(accidents)()


def _flipped(upload: bytes, within: int, count: int, rng: random.Random) -> bytes:
    """Return `upload` with `count` bits flipped in its first `within` bytes."""
    broken = bytearray(upload)
    for _ in range(count if broken else 0):
        broken[rng.randrange(min(within, len(broken)))] ^= 1 << rng.randrange(8)
    return bytes(broken)

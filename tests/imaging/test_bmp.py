"""BMP whose colours Pillow takes for the width of their pixels."""

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import DamagedImage
from service.imaging.decode import decode, decode_mask
from tests.imaging.pictures import encoded, noise

LIMIT = 1_000_000
BLACK_AND_WHITE = [0, 255]


def bmp(indices: NDArray[np.integer], greys: list[int], bits: int, *, is_os2: bool = False) -> bytes:
    """Return an uncompressed BMP of (H, W) indices into a table of greys."""
    height, width = indices.shape
    each = (indices[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    stride = (width * bits + 31) // 32 * 4
    rows = b"".join(np.packbits(row).tobytes().ljust(stride, b"\0") for row in each[::-1])
    table = b"".join(bytes([grey] * 3 if is_os2 else [grey, grey, grey, 0]) for grey in greys)
    if is_os2:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 0, 0, len(greys), 0)
    start = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + table + rows


def grey(upload: bytes) -> NDArray[np.uint8]:
    return decode(upload, max_pixels=LIMIT).pixels[..., 0]


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("shape", [(7, 20), (5, 9)], ids=["even", "odd"])
def test_black_and_white_are_read_whatever_the_bits_a_pixel(bits: int, shape: tuple[int, int]) -> None:
    chosen = noise(*shape) % 2
    upload = bmp(chosen, BLACK_AND_WHITE, bits)
    np.testing.assert_array_equal(grey(upload), chosen * 255)
    read = decode_mask(upload, max_pixels=LIMIT)
    assert read.is_binary
    np.testing.assert_array_equal(read.mask, chosen > 0)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("is_os2", [False, True])
def test_greys_in_their_order_are_read_whatever_the_bits_a_pixel(bits: int, is_os2: bool) -> None:
    levels = noise(6, 11) & (2**bits - 1)
    ramp = BLACK_AND_WHITE if bits == 1 else list(range(2**bits))
    wanted = np.array(ramp, np.uint8)[levels]
    np.testing.assert_array_equal(grey(bmp(levels, ramp, bits, is_os2=is_os2)), wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_other_tables_are_read_as_before(bits: int) -> None:
    levels = noise(6, 11) % 4
    table = [200, 10, 90, 255]
    np.testing.assert_array_equal(grey(bmp(levels, table, bits)), np.array(table, np.uint8)[levels])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_pillow_reads_the_same_of_what_it_wrote(mode: str) -> None:
    upload = encoded(Image.fromarray(noise(9, 13, 3)).convert(mode), "BMP")
    with Image.open(io.BytesIO(upload)) as pillows:
        np.testing.assert_array_equal(decode(upload, max_pixels=LIMIT).pixels, np.asarray(pillows.convert("RGB")))


@pytest.mark.parametrize("header_bytes", [56, 108, 124])
@pytest.mark.parametrize(("alpha", "compression"), [(0x8000, 3), (0, 3), (0x8000, 0)])
def test_a_bit_of_alpha_hides_what_is_transparent(header_bytes: int, alpha: int, compression: int) -> None:
    pixels = [0xFC00, 0x7C00, 0x801F, 0x001F]  # red and blue, each opaque, then transparent
    header = struct.pack("<IiiHHIIiiII", header_bytes, 2, 2, 1, 16, compression, 8, 0, 0, 0, 0)
    header += struct.pack("<4I", 0x7C00, 0x3E0, 0x1F, alpha) + bytes(header_bytes - 56)
    upload = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + header_bytes) + header + struct.pack("<4H", *pixels)
    red, blue, black = [255, 0, 0], [0, 0, 255], [0, 0, 0]
    wanted = [[blue, black], [red, black]] if alpha and compression else [[blue, blue], [red, red]]
    assert decode(upload, max_pixels=LIMIT).pixels.tolist() == wanted


def test_rows_that_are_missing_are_damage() -> None:
    upload = bmp(noise(9, 9) % 2, BLACK_AND_WHITE, 8)
    for kept in (20, 60, len(upload) - 9):
        with pytest.raises(DamagedImage):
            decode(upload[:kept], max_pixels=LIMIT)

"""A compressed TIFF whose end is lost, with zeros in its place, is refused: they are codes, and come as garbage."""

import lzma
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from service.errors import DamagedImage
from service.imaging.decode import decode
from tests.imaging.pictures import noise
from tests.imaging.test_deep_tiff import Tags, built

LIMIT = 1_000_000
WIDTH, HEIGHT = 320, 256
PICTURE = noise(HEIGHT, WIDTH)
LZW, DEFLATE, ADOBE_DEFLATE, XZ = 5, 32_946, 8, 34_925


def lzw(pixels: bytes) -> bytes:
    """Return pixels that are no more than literals to LZW, with a new table before it takes codes of 10 bits."""
    codes = [code for start in range(0, len(pixels), 250) for code in (256, *pixels[start : start + 250])]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


COMPRESS: dict[int, Callable[[bytes], bytes]] = {
    LZW: lzw,
    DEFLATE: zlib.compress,
    ADOBE_DEFLATE: zlib.compress,
    XZ: lzma.compress,
}


def tiff(compression: int, *, strips: int = 1, zeros: int = 0, padding: int = 0) -> bytes:
    """Return a grey TIFF in strips, with so many `zeros` instead of the end of the last, and `padding` behind each."""
    pieces = [COMPRESS[compression](rows.tobytes()) + bytes(padding) for rows in np.split(PICTURE, strips)]
    pieces[-1] = pieces[-1][: len(pieces[-1]) - zeros] + bytes(zeros)
    lengths = [len(piece) for piece in pieces]
    offsets = [8 + sum(lengths[:number]) for number in range(strips)]
    told: Tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: compression, 262: 1, 277: 1}
    return built(b"".join(pieces), told | {273: offsets, 278: HEIGHT // strips, 279: lengths})


@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("compression", COMPRESS)
def test_whole_ones_are_read(compression: int, strips: int) -> None:
    np.testing.assert_array_equal(decode(tiff(compression, strips=strips), max_pixels=LIMIT).pixels[..., 0], PICTURE)


@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("zeros", [8, 60, 1000, 10_000])
def test_one_that_ends_in_zeros_is_refused(compression: int, strips: int, zeros: int) -> None:
    with pytest.raises(DamagedImage):
        decode(tiff(compression, strips=strips, zeros=zeros), max_pixels=LIMIT)


@pytest.mark.parametrize("padding", [1, 4, 4000])
@pytest.mark.parametrize("compression", [LZW, DEFLATE])
def test_zeros_behind_the_end_of_what_was_compressed_do_no_harm(compression: int, padding: int) -> None:
    read = decode(tiff(compression, strips=4, padding=padding), max_pixels=LIMIT).pixels
    np.testing.assert_array_equal(read[..., 0], PICTURE)

"""A deflated TIFF whose end is lost, with zeros in its place, is refused: they inflate to garbage."""

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
DEFLATE, ADOBE_DEFLATE, XZ = 32_946, 8, 34_925


def tiff(compression: int, *, strips: int = 1, zeros: int = 0, padding: int = 0) -> bytes:
    """Return a grey TIFF in strips, with so many `zeros` instead of the end of the last, and `padding` behind each."""
    compress: Callable[[bytes], bytes] = lzma.compress if compression == XZ else zlib.compress
    pieces = [compress(rows.tobytes()) + bytes(padding) for rows in np.split(PICTURE, strips)]
    pieces[-1] = pieces[-1][: len(pieces[-1]) - zeros] + bytes(zeros)
    lengths = [len(piece) for piece in pieces]
    offsets = [8 + sum(lengths[:number]) for number in range(strips)]
    told: Tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: compression, 262: 1, 277: 1}
    return built(b"".join(pieces), told | {273: offsets, 278: HEIGHT // strips, 279: lengths})


@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("compression", [DEFLATE, ADOBE_DEFLATE, XZ])
def test_whole_ones_are_read(compression: int, strips: int) -> None:
    np.testing.assert_array_equal(decode(tiff(compression, strips=strips), max_pixels=LIMIT).pixels[..., 0], PICTURE)


@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("compression", [DEFLATE, ADOBE_DEFLATE, XZ])
@pytest.mark.parametrize("zeros", [8, 60, 1000, 10_000])
def test_one_that_ends_in_zeros_is_refused(compression: int, strips: int, zeros: int) -> None:
    with pytest.raises(DamagedImage):
        decode(tiff(compression, strips=strips, zeros=zeros), max_pixels=LIMIT)


@pytest.mark.parametrize("padding", [1, 4, 4000])
def test_zeros_behind_the_end_of_what_was_deflated_do_no_harm(padding: int) -> None:
    read = decode(tiff(DEFLATE, strips=4, padding=padding), max_pixels=LIMIT).pixels
    np.testing.assert_array_equal(read[..., 0], PICTURE)

"""PNG answers and previews."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from service.imaging.encode import encode_png, overlay
from tests.imaging.pictures import noise


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (37, 41), (512, 512)])
def test_grey_levels_come_back_from_the_png(size: tuple[int, int]) -> None:
    grey = noise(*size)
    decoded = Image.open(io.BytesIO(encode_png(grey)))
    assert decoded.mode == "L"
    np.testing.assert_array_equal(np.asarray(decoded), grey)


def test_a_view_that_is_not_contiguous_is_encoded() -> None:
    grey = noise(40, 60)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(grey[::2, ::3])))), grey[::2, ::3])


def test_the_png_has_no_metadata_chunks() -> None:
    upload = encode_png(noise(300, 300))
    at, names = 8, set()
    while at < len(upload):
        length, name = struct.unpack_from(">I4s", upload, at)
        names.add(name)
        at += 12 + length
    assert names == {b"IHDR", b"IDAT", b"IEND"}


def test_overlay_tints_the_inside_outlines_the_edge_and_leaves_the_rest() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    drawn = overlay(image, mask, colour=(200, 0, 100), alpha=0.5)
    assert drawn[10, 10].tolist() == [150, 50, 100]
    assert all(drawn[place].tolist() == [200, 0, 100] for place in ((5, 10), (14, 10), (10, 5), (10, 14)))
    assert drawn[2, 2].tolist() == [100, 100, 100]
    assert (image == 100).all()


def test_a_full_mask_has_no_outline_at_the_picture_frame() -> None:
    image = np.zeros((6, 6, 3), np.uint8)
    drawn = overlay(image, np.full((6, 6), 255, np.uint8), colour=(100, 100, 100), alpha=0.5)
    assert (drawn == 50).all()

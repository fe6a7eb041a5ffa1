"""TIFF pages are counted and picked without decoding."""

import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage, FrameNeeded, ImageTooLarge
from service.imaging.decode import decode
from service.imaging.tiff import alone, pages
from tests.imaging.pictures import encoded, noise

LIMIT = 1_000_000
SHORT, LONG = 3, 4


def directory(tags: dict[int, tuple[int, int, int]], following: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def tags(width: int, height: int, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    plain = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height, 273: 8, 279: width * height}
    return {tag: (LONG, 1, value) for tag, value in plain.items()} | {
        int(tag[1:]): entry for tag, entry in more.items()
    }


def file(*directories: dict[int, tuple[int, int, int]]) -> bytes:
    """Return a little-endian TIFF whose directories follow one another."""
    upload = b"II*\0" + struct.pack("<I", 8)
    for index, each in enumerate(directories):
        end = len(upload) + 2 + 12 * len(each) + 4
        upload += directory(each, end if index < len(directories) - 1 else 0)
    return upload


def test_thumbnails_and_transparency_masks_are_no_pages() -> None:
    whole, thumbnail, mask = tags(8, 8), tags(2, 2, t254=(LONG, 1, 1)), tags(8, 8, t254=(LONG, 1, 4))
    assert len(pages(file(whole, thumbnail, mask))) == 1
    assert len(pages(file(thumbnail, whole))) == 1
    assert len(pages(file(thumbnail, thumbnail))) == 2
    assert decode(file(thumbnail, whole) + bytes(99), max_pixels=LIMIT).pixels.shape == (8, 8, 3)


def test_directories_that_go_round_are_counted_once() -> None:
    upload = b"II*\0" + struct.pack("<I", 8) + directory(tags(2, 2), following=8)
    assert len(pages(upload)) == 1


@pytest.mark.parametrize(("dtype", "big_tiff"), [("u1", False), ("u1", True), (">u2", False)])
def test_a_page_can_be_picked_in_every_layout(dtype: str, big_tiff: bool) -> None:
    levels = [noise(9, 7 + page) for page in range(3)]
    first, *others = (Image.fromarray(each.astype(dtype)) for each in levels)
    upload = encoded(first, "TIFF", save_all=True, append_images=others, big_tiff=big_tiff)
    assert upload[:2] == (b"MM" if dtype == ">u2" else b"II")
    assert len(pages(upload)) == 3
    for page in range(3):
        np.testing.assert_array_equal(decode(upload, max_pixels=LIMIT, frame=page).pixels[..., 0], levels[page])


def test_pages_of_big_endian_bigtiff_are_counted() -> None:
    first, *others = (Image.fromarray(noise(4, 4).astype(">u2")) for _ in range(3))
    assert len(pages(encoded(first, "TIFF", save_all=True, append_images=others, big_tiff=True))) == 3


def test_a_picked_page_is_the_first_of_what_is_handed_on() -> None:
    upload = file(tags(2, 2), tags(3, 3))
    first, second = pages(upload)
    assert alone(upload, first, LIMIT) == upload
    assert pages(alone(upload, second, LIMIT)) == [second]


def test_thousands_of_pages_are_counted() -> None:
    with pytest.raises(FrameNeeded, match="5000 frames"):
        decode(file(*[tags(2, 2)] * 5000), max_pixels=LIMIT)


def test_more_directories_than_pages_could_have_are_damage() -> None:
    with pytest.raises(DamagedImage, match="directories"):
        pages(file(*[{256: (LONG, 1, 1)}] * 10_001))


def test_directories_that_overlap_are_damage() -> None:
    claimed = struct.pack("<H", 60_000)
    upload = b"II*\0" + struct.pack("<I", 8) + claimed + bytes(1000)
    with pytest.raises(DamagedImage):
        pages(upload)


def test_a_tile_larger_than_the_limit_is_refused() -> None:
    tiled = tags(64, 64, t322=(LONG, 1, 30_000), t323=(LONG, 1, 30_000), t324=(LONG, 1, 8), t325=(LONG, 1, 99))
    with pytest.raises(ImageTooLarge):
        decode(file(tiled), max_pixels=LIMIT)


def test_a_tag_of_millions_of_values_is_refused() -> None:
    striped = tags(64, 64, t273=(LONG, 2_000_000, 8))
    with pytest.raises(DamagedImage, match="2000000 values"):
        decode(file(striped) + bytes(8_000_000), max_pixels=LIMIT)


@pytest.mark.parametrize("upload", [b"II*\0", b"MM\0*\0\0\0", b"II*\0\xff\xff\xff\xff", b"II+\0" + bytes(20)])
def test_a_file_without_a_directory_is_damaged(upload: bytes) -> None:
    with pytest.raises(DamagedImage):
        pages(upload)

"""TIFF pages are counted and picked without decoding."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage, FrameNeeded, ImageTooLarge
from service.imaging.decode import decode
from service.imaging.opening import pixels_to_decode
from service.imaging.tiff import alone, pages
from tests.imaging.pictures import encoded, noise

LIMIT = 1_000_000
SHORT, LONG, RATIONAL = 3, 4, 5


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


def test_pages_that_are_said_to_be_pages_are_pages() -> None:
    assert len(pages(file(tags(8, 8), tags(8, 8, t254=(LONG, 1, 2))))) == 2


@pytest.mark.parametrize("tag", ["t32997", "t32998"])
def test_a_volume_in_one_page_is_refused(tag: str) -> None:
    with pytest.raises(DamagedImage, match="a page for each slice"):
        decode(file(tags(8, 8, **{tag: (LONG, 1, 2)})) + bytes(99), max_pixels=LIMIT)
    assert decode(file(tags(8, 8, **{tag: (LONG, 1, 1)})) + bytes(99), max_pixels=LIMIT).pixels.shape == (8, 8, 3)


def test_a_stack_of_metamorph_is_refused_and_a_single_picture_of_it_is_read() -> None:
    """Its slices lie one behind the other, in one page; all readers that do not know it take the first."""
    for planes in (1, 3):
        upload = file(tags(8, 8, t33629=(RATIONAL, planes, 8))) + bytes(99)
        if planes == 1:
            assert decode(upload, max_pixels=LIMIT).pixels.shape == (8, 8, 3)
        else:
            with pytest.raises(DamagedImage, match="a page for each slice"):
                decode(upload, max_pixels=LIMIT)


def test_one_strip_of_as_many_rows_as_can_be_said_is_as_large_as_the_picture() -> None:
    """So do some libraries say that there is but one."""
    (page,) = pages(file(tags(8, 6, t278=(LONG, 1, 2**32 - 1))))
    assert page.piece_pixels(8, 6) == 48


def test_a_preview_beside_a_picture_that_is_no_page_is_not_taken_for_it() -> None:
    """A camera's raw file has its picture in a directory below the thumbnail's."""
    preview = tags(2, 2, t254=(LONG, 1, 1), t330=(LONG, 1, 8))
    mask, whole = tags(8, 8, t254=(LONG, 1, 4)), tags(8, 8, t330=(LONG, 1, 8))
    for raw in (file(preview), file(mask, preview)):
        for refuse in (decode, pixels_to_decode):
            with pytest.raises(DamagedImage, match="only a preview"):
                refuse(raw + bytes(99), max_pixels=LIMIT)
    assert decode(file(preview, whole) + bytes(99), max_pixels=LIMIT).pixels.shape == (8, 8, 3)
    assert decode(file(tags(2, 2, t254=(LONG, 1, 1))) + bytes(9), max_pixels=LIMIT).pixels.shape == (2, 2, 3)


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
    upload = encoded(first, "TIFF", save_all=True, append_images=others, big_tiff=True)
    assert len(pages(upload)) == 3
    with pytest.raises(DamagedImage, match="little-endian"):
        decode(upload, max_pixels=LIMIT, frame=0)


def test_a_picked_page_is_the_first_of_what_is_handed_on() -> None:
    upload = file(tags(2, 2), tags(3, 3))
    first, second = pages(upload)
    assert alone(upload, first) == upload
    assert pages(alone(upload, second)) == [second]


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


@pytest.mark.parametrize("type_", [6, 8, 9, 13, 16, 17, 18, 5, 11], ids=lambda type_: f"type {type_}")
def test_a_tile_is_as_large_whatever_type_of_number_says_so(type_: int) -> None:
    """libtiff takes any type of whole number, and would allocate the tile."""
    large = 30_000 if type_ not in {6, 8} else 120
    tiled = tags(64, 64, t322=(type_, 1, large), t323=(type_, 1, large), t324=(LONG, 1, 8), t325=(LONG, 1, 99))
    with pytest.raises((ImageTooLarge, DamagedImage), match="tiles"):
        decode(file(tiled), max_pixels=10_000)


def test_eight_bytes_that_hold_the_size_of_a_tile_are_read_in_bigtiff() -> None:
    entry = struct.Struct("<HHQQ")
    sizes = {256: 64, 257: 64, 322: 30_000, 323: 30_000}
    entries = b"".join(entry.pack(tag, 16, 1, value) for tag, value in sizes.items())
    upload = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(sizes)) + entries + bytes(8)
    (page,) = pages(upload)
    assert page.tile == (30_000, 30_000)
    assert page.is_clear


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
def test_a_size_that_is_told_twice_is_damage(tag: int) -> None:
    """Pillow goes by the last, libtiff by the first."""
    told = [(*entry,) for entry in sorted({**tags(64, 64), 322: (LONG, 1, 16), 323: (LONG, 1, 16)}.items())]
    again = sorted([*told, (tag, (LONG, 1, 30_000))], key=lambda entry: entry[0])
    entries = b"".join(struct.pack("<HHII", number, *entry) for number, entry in again)
    upload = b"II*\0" + struct.pack("<IH", 8, len(again)) + entries + bytes(9999)
    with pytest.raises(DamagedImage, match="twice"):
        decode(upload, max_pixels=LIMIT)


def test_many_tiles_of_one_small_block_are_not_decoded() -> None:
    """Each alone is within the limit, and all are the same 40 kB: half a minute of work for 1600 × 16 pixels."""
    shared = {322: (LONG, 1, 16), 323: (LONG, 1, 60_000), 324: (LONG, 100, 8), 325: (LONG, 100, 8)}
    with pytest.raises(ImageTooLarge, match="tiles"):
        decode(file({**tags(1600, 16), **shared}) + bytes(999), max_pixels=LIMIT)


@pytest.mark.parametrize("orientation", [1, 6])
def test_tiles_are_counted_on_the_grid_on_which_they_lie_however_the_picture_is_turned(orientation: int) -> None:
    turned = {**tags(16, 1600), 274: (SHORT, 1, orientation), 322: (LONG, 1, 60_000), 323: (LONG, 1, 16)}
    with pytest.raises(ImageTooLarge, match="tiles"):
        decode(file({**turned, 324: (LONG, 100, 8), 325: (LONG, 100, 8)}) + bytes(999), max_pixels=LIMIT)


def test_tiles_that_reach_beyond_the_picture_count_as_work() -> None:
    (page,) = pages(file({**tags(100, 70), 322: (LONG, 1, 64), 323: (LONG, 1, 48)}))
    assert page.pixels_to_decode(100, 70) == 2 * 64 * 2 * 48


def test_a_picture_at_the_limit_may_have_tiles_that_reach_beyond_it() -> None:
    levels = noise(1024, 1024)
    tiles = [levels[y : y + 512, x : x + 512].tobytes() for y in (0, 512) for x in (0, 512)]
    at = 8 + 2 + 12 * 10 + 4
    told = {322: (LONG, 1, 512), 323: (LONG, 1, 512), 324: (LONG, 4, at), 325: (LONG, 4, at + 16)}
    untiled = {tag: entry for tag, entry in tags(1000, 1000).items() if tag not in {273, 278, 279}}
    offsets = struct.pack("<8I", *(at + 32 + 512 * 512 * index for index in range(4)), *[512 * 512] * 4)
    upload = file({**untiled, **told}) + offsets + b"".join(tiles)
    np.testing.assert_array_equal(decode(upload, max_pixels=LIMIT).pixels[..., 0], levels[:1000, :1000])


def test_a_tag_of_millions_of_values_is_refused() -> None:
    striped = tags(64, 64, t273=(LONG, 2_000_000, 8))
    with pytest.raises(DamagedImage, match="2000000 values"):
        decode(file(striped) + bytes(8_000_000), max_pixels=LIMIT)


def test_so_many_uncompressed_strips_that_reading_them_takes_long_are_refused_from_the_header() -> None:
    """Compressed ones are read by libtiff, at a hundredth of the cost."""
    column = tags(1, 20_000, t273=(LONG, 20_000, 8), t278=(LONG, 1, 1))
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="larger strips or tiles"):
            refuse(file(column) + bytes(80_000), max_pixels=LIMIT)
    deflated = file({**column, 259: (SHORT, 1, 8)}) + bytes(80_000)
    assert pixels_to_decode(deflated, max_pixels=LIMIT) > 20_000


@pytest.mark.parametrize("compression", [(SHORT, 1, 1), (LONG, 0, 8), (11, 1, 0x3F80_0000), (18, 1, 8)])
def test_strips_count_as_uncompressed_unless_the_file_is_clear_about_it(compression: tuple[int, int, int]) -> None:
    column = tags(1, 20_000, t273=(LONG, 20_000, 8), t278=(LONG, 1, 1), t259=compression)
    with pytest.raises(DamagedImage, match="larger strips or tiles"):
        decode(file(column) + bytes(80_000), max_pixels=LIMIT)


def test_tens_of_thousands_of_tags_are_refused() -> None:
    some, many = (file(tags(2, 2) | dict.fromkeys(range(5000, 5000 + count), (7, 4, 0))) for count in (1000, 60_000))
    assert decode(some, max_pixels=LIMIT).pixels.shape == (2, 2, 3)
    with pytest.raises(DamagedImage, match="tags"):
        decode(many, max_pixels=LIMIT)


def test_a_bigtiff_directory_of_over_a_million_tags_is_refused_unread() -> None:
    entries = bytes(20) * 1_600_000
    with pytest.raises(DamagedImage, match="1600000 tags"):
        pages(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1_600_000) + entries + bytes(8))


@pytest.mark.parametrize(("type_", "values"), [(7, 500_000), (LONG, 125_000), (12, 62_500)])
def test_tags_that_share_their_values_are_refused(type_: int, values: int) -> None:
    """libtiff takes a copy of each: a thousand of them would be half a gigabyte."""
    shared = dict.fromkeys(range(5000, 6000), (type_, values, 20_000))
    with pytest.raises(DamagedImage, match="more bytes"):
        decode(file(tags(2, 2) | shared) + bytes(600_000), max_pixels=LIMIT)


def test_values_that_lie_behind_the_end_of_the_file_are_passed_over() -> None:
    cut_off = dict.fromkeys(range(5000, 5100), (7, 500_000, 4_000_000_000))
    assert decode(file(tags(2, 2) | cut_off), max_pixels=LIMIT).pixels.shape == (2, 2, 3)


def test_what_pillow_does_not_come_to_behind_values_that_are_missing_is_not_guessed() -> None:
    """A description behind the picture, as OME-TIFF has it, is lost first: signed levels came as unsigned ones."""
    levels = np.array([[-3, -1, 0, 1, 500, 1023]], np.int16)
    stored = zlib.compress(levels.astype("<i2").tobytes())
    told = tags(6, 1, t258=(SHORT, 1, 16), t259=(SHORT, 1, 8), t279=(LONG, 1, len(stored)), t339=(SHORT, 1, 2))

    def described(at: int) -> bytes:
        upload = file(told | {270: (2, 400, at)})
        start = len(upload)
        return file(told | {270: (2, 400, at or start), 273: (LONG, 1, start + 400)}) + b"x" * 400 + stored

    whole = described(0)
    assert decode(whole, max_pixels=LIMIT).pixels[0, :, 0].tolist() == [0, 0, 0, 0, 125, 255]
    for missing in (len(whole), len(whole) - 399, 4_000_000_000):
        with pytest.raises(DamagedImage, match="cut short"):
            decode(described(missing), max_pixels=LIMIT)


def test_a_directory_that_breaks_off_is_none() -> None:
    """Even between two entries: those behind may have told how the levels are to be read."""
    pixels = b"\xff\xff\1\0" * 8
    told = tags(4, 4, t258=(SHORT, 1, 16), t279=(LONG, 1, 32), t339=(SHORT, 1, 2))
    at = 8 + len(pixels)
    whole = b"II*\0" + struct.pack("<I", at) + pixels + directory(told, 0)
    assert decode(whole, max_pixels=LIMIT).pixels[0, :, 0].tolist() == [0, 1] * 2
    for entries in range(len(told)):
        with pytest.raises(DamagedImage):
            decode(whole[: at + 2 + 12 * entries], max_pixels=LIMIT)
        with pytest.raises(DamagedImage):
            decode(whole[: at + 2 + 12 * entries].ljust(len(whole), b"\0"), max_pixels=LIMIT)


@pytest.mark.parametrize("upload", [b"II*\0", b"MM\0*\0\0\0", b"II*\0\xff\xff\xff\xff", b"II+\0" + bytes(20)])
def test_a_file_without_a_directory_is_damaged(upload: bytes) -> None:
    with pytest.raises(DamagedImage):
        pages(upload)


def test_strips_that_share_a_million_bytes_are_refused() -> None:
    """Of bytes that mean nothing, in each of thousands of strips anew: 1 MB kept a thread busy for 29 s."""
    blank = zlib.compress(b"\7")
    padded = blank + bytes(1_000_000)

    def column(strip: bytes) -> bytes:
        lists = struct.pack("<5000I", *[8] * 5000) + struct.pack("<5000I", *[len(strip)] * 5000)
        at = 8 + len(strip) + len(strip) % 2
        told = tags(
            1, 5000, t259=(SHORT, 1, 8), t273=(LONG, 5000, at), t278=(LONG, 1, 1), t279=(LONG, 5000, at + 20_000)
        )
        return b"II*\0" + struct.pack("<I", at + 40_000) + strip.ljust(at - 8, b"\0") + lists + directory(told, 0)

    assert (decode(column(blank), max_pixels=LIMIT).pixels == 7).all()
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="over each other"):
            refuse(column(padded), max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("tag", "type_", "values"),
    [
        (282, 5, 100_000),
        (258, 1, 1_000_000),
        (339, 2, 1_000_000),
        (273, 1, 1_000_000),
        (320, 5, 768),
        (34675, 5, 100_000),
    ],
)
def test_a_tag_that_is_read_has_no_more_values_than_it_needs(tag: int, type_: int, values: int) -> None:
    """Pillow makes a Python object of each, or looks at all of them at once, whatever they should be."""
    with pytest.raises(DamagedImage, match="values"):
        decode(file(tags(2, 2) | {tag: (type_, values, 8)}) + bytes(1_000_000), max_pixels=LIMIT)


def test_hundreds_of_thousands_of_tags_in_all_are_refused() -> None:
    page = tags(2, 2) | dict.fromkeys(range(5000, 5300), (LONG, 1, 0))
    assert len(pages(file(*[page] * 500))) == 500
    with pytest.raises(DamagedImage, match="directories"):
        pages(file(*[page] * 1000))


def test_an_old_style_jpeg_whose_planes_lie_apart_is_refused() -> None:
    """libtiff goes over it from the first strip on for each strip of each plane: 120 kB kept a thread busy for 9 s."""
    planes = {258: (SHORT, 1, 8), 259: (SHORT, 1, 6), 262: (SHORT, 1, 6), 277: (SHORT, 1, 3), 284: (SHORT, 1, 2)}
    with pytest.raises(DamagedImage, match="plane by plane"):
        pixels_to_decode(file(tags(8, 8) | planes) + bytes(99), max_pixels=LIMIT)

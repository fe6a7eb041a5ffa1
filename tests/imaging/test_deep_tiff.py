"""TIFF of more than 8 bits a sample look the same however they are stored."""

import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import DamagedImage
from service.imaging.decode import decode, decode_mask
from service.imaging.opening import pixels_to_decode

LIMIT = 1_000_000
SHORT, LONG = 3, 4
GREY, RGB, CMYK, YCBCR, LAB = 1, 2, 5, 6, 8
FORMATS = {"u": 1, "i": 2, "f": 3}
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
COMPRESSED = pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "deflated"])

Samples = NDArray[np.generic]
Order = Literal["<", ">"]
Tags = dict[int, int | list[int]]


def tiff(
    samples: Samples, photometric: int, *, order: Order = "<", is_compressed: bool = False, apart: bool = False
) -> bytes:
    """Return a TIFF of (H, W) or (H, W, C), in strips of 5 rows, with interleaved samples or plane by plane."""
    height, width, channels = *samples.shape[:2], samples.shape[2] if samples.ndim == 3 else 1
    stored = samples.astype(samples.dtype.newbyteorder(order)).reshape(height, width, channels)
    planes = np.split(stored, channels, axis=2) if apart else [stored]
    strips = [plane[top : top + 5].tobytes() for plane in planes for top in range(0, height, 5)]
    if is_compressed:
        strips = [zlib.compress(strip) for strip in strips]
    tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * samples.dtype.itemsize] * channels),
        259: (SHORT, [8 if is_compressed else 1]),
        262: (SHORT, [photometric]),
        273: (LONG, list(np.cumsum([8, *map(len, strips[:-1])]))),
        277: (SHORT, [channels]),
        278: (LONG, [5]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [2 if apart else 1]),
        339: (SHORT, [FORMATS[samples.dtype.kind]] * channels),
    }
    pixels = b"".join(strips)
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels)) + pixels + directory(
        tags, order, 8 + len(pixels)
    )  # fmt: skip


def directory(tags: Mapping[int, tuple[int, Sequence[int]]], order: Order, at: int) -> bytes:
    """Return a directory that lies `at` this offset, with the values that do not fit into it behind."""
    entries, beyond = struct.pack(order + "H", len(tags)), b""
    end = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        inline = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", end + len(beyond))
        beyond += b"" if len(packed) <= 4 else packed
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + inline
    return entries + bytes(4) + beyond


def draw(*channels: int) -> NDArray[np.uint16]:
    """Return noise of the whole range, (17, 23, *channels)."""
    levels = np.random.default_rng(0).integers(0, 65536, (17, 23, *channels), dtype=np.uint16)
    levels[0, :2] = np.array([0, 65535]).reshape(2, *(1 for _ in channels))
    return levels


def pixels(upload: bytes) -> NDArray[np.uint8]:
    return decode(upload, max_pixels=LIMIT).pixels


def grey(upload: bytes) -> NDArray[np.uint8]:
    return pixels(upload)[..., 0]


@ORDERS
@COMPRESSED
@pytest.mark.parametrize("apart", [False, True], ids=["interleaved", "plane by plane"])
def test_sixteen_bit_colours_become_their_upper_bytes(order: Order, is_compressed: bool, apart: bool) -> None:
    colours = draw(3)
    upload = tiff(colours, RGB, order=order, is_compressed=is_compressed, apart=apart)
    np.testing.assert_array_equal(pixels(upload), colours >> 8)


@ORDERS
@COMPRESSED
@pytest.mark.parametrize("apart", [False, True], ids=["interleaved", "plane by plane"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_levels_of_thirty_two_bits_and_more_follow_the_rule(
    dtype: type[np.generic], order: Order, is_compressed: bool, apart: bool
) -> None:
    levels = draw()
    stored = levels.astype(dtype) if dtype is np.int32 else (levels / 65535).astype(dtype)
    upload = tiff(stored, GREY, order=order, is_compressed=is_compressed, apart=apart)
    np.testing.assert_array_equal(grey(upload), np.rint(levels / 257))


@ORDERS
def test_signed_levels_of_sixteen_bits_follow_the_rule_when_they_are_compressed(order: Order) -> None:
    levels = (draw() >> 1).astype(np.int16)
    expected = grey(tiff(levels, GREY, order=order))
    assert set(np.unique(expected)) > {0, 100}
    np.testing.assert_array_equal(grey(tiff(levels, GREY, order=order, is_compressed=True)), expected)


@pytest.mark.parametrize(("channels", "photometric"), [(4, RGB), (4, CMYK)], ids=["RGBA", "CMYK"])
def test_deep_planes_that_cannot_be_read_are_refused_from_the_header(channels: int, photometric: int) -> None:
    upload = tiff(draw(channels), photometric, apart=True)
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="save it with interleaved samples"):
            refuse(upload, max_pixels=LIMIT)


@ORDERS
@COMPRESSED
@pytest.mark.parametrize(
    ("dtype", "photometric"),
    [(np.uint8, 0), (np.uint8, GREY), (np.int8, GREY), (np.uint16, 0), (np.uint16, GREY), (np.int16, GREY)],
)
def test_one_sample_a_pixel_is_read_though_its_planes_are_said_to_lie_apart(
    dtype: type[np.generic], photometric: int, order: Order, is_compressed: bool
) -> None:
    together, apart = (
        tiff((draw() >> 9).astype(dtype), photometric, order=order, is_compressed=is_compressed, apart=apart)
        for apart in (False, True)
    )
    assert apart != together
    np.testing.assert_array_equal(grey(apart), grey(together))


@COMPRESSED
@pytest.mark.parametrize("photometric", [0, GREY, 3], ids=["0 is white", "0 is black", "palette"])
@pytest.mark.parametrize("bits", [1, 4])
def test_packed_samples_are_read_though_their_planes_are_said_to_lie_apart(
    bits: int, photometric: int, is_compressed: bool
) -> None:
    levels = bytes(range(100, 116))
    stored = zlib.compress(levels) if is_compressed else levels
    told: Tags = PLAIN | {256: 32 // bits, 258: bits, 262: photometric, 278: 4, 279: len(stored)}
    if is_compressed:
        told |= {259: 8}
    if photometric == 3:
        told |= {320: [*range(0, 65536, 65536 // 2**bits)] * 3}
    together = grey(built(stored, told))
    assert together.min() < together.max()
    np.testing.assert_array_equal(grey(built(stored, told | {284: 2})), together)


@pytest.mark.parametrize("is_tiled", [False, True], ids=["strips", "tiles"])
@COMPRESSED
@pytest.mark.parametrize(
    ("channels", "photometric"), [(3, LAB), (4, RGB), (3, YCBCR)], ids=["LAB", "RGB and a sample", "YCbCr"]
)
def test_planes_that_come_in_wrong_colours_are_refused(
    channels: int, photometric: int, is_compressed: bool, is_tiled: bool
) -> None:
    plane = zlib.compress(bytes(256)) if is_compressed else bytes(256)
    told = {tag: kept for tag, kept in PLAIN.items() if not is_tiled or tag not in {273, 278, 279}}
    at, of, size = (324, 325, {322: 16, 323: 16}) if is_tiled else (273, 279, {278: 16})
    told |= {256: 16, 257: 16, 258: [8] * channels, 259: 8 if is_compressed else 1, 262: photometric, 277: channels}
    told |= {**size, at: [8] * channels, of: [len(plane)] * channels, 284: 2}
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="save it with interleaved samples"):
            refuse(built(plane, told), max_pixels=LIMIT)


@COMPRESSED
@pytest.mark.parametrize(("bits", "kind"), [(8, 1), (32, 2), (32, 3)], ids=["8 bits", "32 bits", "float"])
@pytest.mark.parametrize("photometric", [0, GREY], ids=["0 is white", "0 is black"])
def test_of_several_channels_that_are_no_colours_none_is_taken_for_the_picture(
    photometric: int, bits: int, kind: int, is_compressed: bool
) -> None:
    plane = bytes(2 * bits)
    stored = zlib.compress(plane) if is_compressed else plane
    told: Tags = PLAIN | {258: [bits] * 3, 259: 8 if is_compressed else 1, 262: photometric, 278: 4, 339: [kind] * 3}
    told |= {273: [8] * 3, 277: 3, 279: [len(stored)] * 3, 284: 2, 338: [0, 0]}
    for refuse in (decode, decode_mask, pixels_to_decode):
        with pytest.raises(DamagedImage):
            refuse(built(stored, told), max_pixels=LIMIT)


@pytest.mark.parametrize("compression", [1, 8])
def test_two_channels_together_are_not_grey_with_alpha_unless_the_file_says_so(compression: int) -> None:
    """Programs of scientists write any array so; the first channel would be taken for the picture."""
    samples = bytes(range(100, 132))
    stored = zlib.compress(samples) if compression == 8 else samples
    told: Tags = PLAIN | {258: [8, 8], 259: compression, 277: 2, 278: 4, 279: len(stored)}
    for read in (decode, decode_mask):
        with pytest.raises(DamagedImage, match="several channels"):
            read(built(stored, told | {338: 0}), max_pixels=LIMIT)
    assert pixels(built(stored, told | {338: 2})).shape == (4, 4, 3)


def test_who_sends_several_channels_is_told_to_send_one() -> None:
    told: Tags = PLAIN | {258: [32] * 3, 273: [8] * 3, 277: 3, 278: 4, 279: [64] * 3, 284: 2, 338: [0, 0], 339: 3}
    with pytest.raises(DamagedImage, match="several channels"):
        decode(built(bytes(64), told), max_pixels=LIMIT)


def test_planes_of_colours_with_a_named_alpha_are_read() -> None:
    told: Tags = PLAIN | {258: [8] * 4, 262: RGB, 273: [8, 24, 40, 56], 277: 4, 278: 4, 279: [16] * 4, 284: 2, 338: 2}
    planes = bytes([200] * 16 + [100] * 16 + [50] * 16 + [255] * 16)
    assert pixels(built(planes, told))[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_a_picture_whose_zero_is_white_is_no_negative(dtype: type[np.generic]) -> None:
    levels = draw()
    stored = {np.uint8: levels >> 8, np.uint16: levels}.get(dtype, levels / 65535).astype(dtype)
    turned = stored.max() - stored
    np.testing.assert_array_equal(grey(tiff(turned, photometric=0)), grey(tiff(stored, GREY)))


def test_a_window_is_that_of_the_levels_as_they_are_stored() -> None:
    upload = tiff(np.array([[0, 1000, 4095]], np.uint16), photometric=0)
    assert grey(upload).tolist() == [[255, 193, 0]]


def test_what_is_no_number_is_black_though_zero_is_white() -> None:
    upload = tiff(np.array([[0.0, np.nan, 1.0, np.inf, -np.inf]], np.float32), photometric=0)
    assert grey(upload).tolist() == [[255, 0, 0, 0, 255]]


def test_a_signalling_nan_is_black_though_zero_is_white() -> None:
    levels = np.array([[0x7FA0_0000, 0x3F80_0000, 0]], np.uint32).view(np.float32)
    upload = tiff(levels, photometric=0)
    assert struct.pack("<I", 0x7FA0_0000) in upload
    assert grey(upload).tolist() == [[0, 0, 255]]
    assert decode_mask(upload, max_pixels=LIMIT).mask.tolist() == [[False, False, True]]


def test_a_mask_whose_zero_is_white_has_its_foreground_there() -> None:
    read = decode_mask(tiff(np.array([[0, 65535, 0]], np.uint16), photometric=0), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[True, False, True]]


@COMPRESSED
def test_unsigned_levels_of_thirty_two_bits_use_their_whole_range(is_compressed: bool) -> None:
    levels = draw()
    stored = levels.astype(np.uint32) * 65537
    np.testing.assert_array_equal(grey(tiff(stored, GREY, is_compressed=is_compressed)), np.rint(levels / 257))


def test_a_mask_of_the_highest_unsigned_level_is_binary() -> None:
    read = decode_mask(tiff(np.array([[0, 2**32 - 1, 0]], np.uint32), GREY), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[False, True, False]]


def test_signed_levels_below_zero_stay_black() -> None:
    assert grey(tiff(np.array([[-1, 0, 1023]], np.int32), GREY)).tolist() == [[0, 0, 255]]


@ORDERS
@COMPRESSED
def test_sixteen_bits_whose_zero_is_white_are_read_in_either_byte_order(order: Order, is_compressed: bool) -> None:
    levels = draw()
    plain, turned = (
        grey(tiff(each, photometric, order=order, is_compressed=is_compressed))
        for each, photometric in ((levels, GREY), (65535 - levels, 0))
    )
    np.testing.assert_array_equal(turned, plain)


@ORDERS
@COMPRESSED
def test_unsigned_thirty_two_bits_are_read_in_either_byte_order(order: Order, is_compressed: bool) -> None:
    levels = draw().astype(np.uint32) << 16
    read = grey(tiff(levels, GREY, order=order, is_compressed=is_compressed))
    np.testing.assert_allclose(read, levels / (2**32 - 1) * 255, atol=0.51)


@ORDERS
@pytest.mark.parametrize("photometric", [0, GREY])
def test_twelve_packed_bits_are_read_in_either_byte_order(order: Order, photometric: int) -> None:
    levels = np.array([[0, 0xFFF, 0x123, 0x800]])
    packed = np.array([[0x00, 0x0F, 0xFF, 0x12, 0x38, 0x00]], np.uint8)
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: 6}
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 14) + packed.tobytes()
    upload = head + directory({tag: (LONG, [value]) for tag, value in tags.items()}, order, 14)
    wanted = np.rint(levels / 4095 * 255)
    np.testing.assert_array_equal(grey(upload), 255 - wanted if photometric == 0 else wanted)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_negative_levels_of_eight_bits_become_black(is_compressed: bool) -> None:
    levels = np.array([[-128, -1, 0, 1, 127]], np.int8)
    assert grey(tiff(levels, GREY, is_compressed=is_compressed)).tolist() == [[0, 0, 0, 1, 127]]


def test_zero_is_white_in_a_fax_that_does_not_say() -> None:
    picture = Image.fromarray(draw() > 30_000)
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", compression="group4")
    upload = buffer.getvalue()
    tag = struct.pack("<HHI", 262, SHORT, 1)
    assert tag in upload
    unsaid = upload.replace(tag, struct.pack("<HHI", 261, SHORT, 1))
    white = re.sub(re.escape(tag) + b"..", tag + b"\0\0", upload, flags=re.DOTALL)
    np.testing.assert_array_equal(grey(unsaid), grey(white))


@COMPRESSED
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_zero_is_black_where_the_file_does_not_say(dtype: type[np.generic], is_compressed: bool) -> None:
    levels = (draw() >> 8).astype(dtype)
    upload = tiff(levels, GREY, is_compressed=is_compressed)
    unsaid = upload.replace(struct.pack("<HHIHH", 262, SHORT, 1, GREY, 0), struct.pack("<HHIHH", 261, SHORT, 1, 1, 0))
    assert unsaid != upload
    np.testing.assert_array_equal(grey(unsaid), grey(upload))


PLAIN: Tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: GREY, 273: 8, 277: 1, 278: 1, 279: 4}
"""The tags of a small grey picture in strips of one row."""


def built(pixels: bytes, tags: Tags) -> bytes:
    """Return a TIFF whose pixels lie from 8 on, with these tags, all of them of 4 bytes."""
    listed = {tag: (LONG, [told] if isinstance(told, int) else told) for tag, told in sorted(tags.items())}
    at = 8 + len(pixels)
    return struct.pack("<2sHI", b"II", 42, at) + pixels + directory(listed, "<", at)


@pytest.mark.parametrize("offsets", [[8, 12, 16], [8, 12, 16, 0], [0, 8, 12, 16]])
def test_uncompressed_pictures_of_which_strips_are_missing_are_refused(offsets: list[int]) -> None:
    levels = bytes(range(100, 116))
    whole = built(levels, PLAIN | {273: [8, 12, 16, 20], 279: [4] * 4})
    assert grey(whole).ravel().tolist() == list(levels)
    with pytest.raises(DamagedImage, match="missing"):
        decode(built(levels, PLAIN | {273: offsets, 279: [4] * len(offsets)}), max_pixels=LIMIT)


def test_uncompressed_pictures_of_which_tiles_are_missing_are_refused() -> None:
    sizes = {tag: told for tag, told in PLAIN.items() if tag not in {273, 278, 279}} | {256: 20, 322: 16, 323: 16}
    tile = bytes(range(100, 116)) * 16
    whole = built(tile, sizes | {324: [8, 8], 325: [256, 256]})
    assert grey(whole)[3].tolist() == [*range(100, 116), *range(100, 104)]
    with pytest.raises(DamagedImage, match="missing"):
        decode(built(tile, sizes | {324: 8, 325: 256}), max_pixels=LIMIT)


def test_uncompressed_planes_of_which_one_is_missing_are_refused() -> None:
    planes: Tags = PLAIN | {258: [8, 8, 8], 262: RGB, 277: 3, 278: 4, 284: 2}
    whole = built(bytes(range(48)), planes | {273: [8, 24, 40], 279: [16] * 3})
    assert pixels(whole)[0, 0].tolist() == [0, 16, 32]
    with pytest.raises(DamagedImage, match="missing"):
        decode(built(bytes(range(48)), planes | {273: [8, 24], 279: [16] * 2}), max_pixels=LIMIT)


@pytest.mark.parametrize("rows", [1, 2, 4, 2**32 - 1])
@pytest.mark.parametrize("planes", [1, 3])
def test_strips_beyond_the_picture_are_passed_over(rows: int, planes: int) -> None:
    levels = bytes(range(100, 100 + 16 * planes))
    strip = 4 * min(rows, 4)
    offsets = list(range(8, 8 + len(levels), strip))
    told = PLAIN | {258: [8] * planes, 262: RGB if planes == 3 else GREY, 277: planes, 278: rows, 284: 2}
    upload = built(levels, told | {273: [*offsets, 9, 9, 9], 279: [strip] * (len(offsets) + 3)})
    stored = np.frombuffer(levels, np.uint8).reshape(planes, 4, 4)
    np.testing.assert_array_equal(pixels(upload), np.broadcast_to(np.moveaxis(stored, 0, 2), (4, 4, 3)))


def test_tiles_beyond_the_picture_are_passed_over() -> None:
    sizes = {tag: told for tag, told in PLAIN.items() if tag not in {273, 278, 279}} | {256: 20, 322: 16, 323: 16}
    tile = bytes(range(100, 116)) * 16
    upload = built(tile + bytes(256), sizes | {324: [8, 8, 264, 264], 325: [256] * 4})
    assert grey(upload)[3].tolist() == [*range(100, 116), *range(100, 104)]


@pytest.mark.parametrize("unit", [1, 257], ids=["8 bits", "16 bits"])
def test_the_colours_of_a_palette_may_be_written_in_8_or_16_bits(unit: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256))
    palette = (colours * unit).ravel().tolist()
    upload = built(bytes(range(16)), PLAIN | {262: 3, 273: [8, 12, 16, 20], 279: [4] * 4, 320: palette})
    np.testing.assert_array_equal(pixels(upload).reshape(16, 3), colours.T[:16])


def test_alpha_in_a_plane_of_its_own_is_refused() -> None:
    plane = zlib.compress(bytes(16))
    apart: Tags = {
        258: [8, 8],
        259: 8,
        273: [8, 8],
        277: 2,
        278: 4,
        279: [len(plane)] * 2,
        284: 2,
        338: 2,
    }
    with pytest.raises(DamagedImage, match="alpha"):
        decode(built(plane, PLAIN | apart), max_pixels=LIMIT)


@pytest.mark.parametrize("tag", [32997, 32998])
def test_a_volume_in_one_page_is_refused(tag: int) -> None:
    told: Tags = PLAIN | {273: 8, 278: 4, 279: 16}
    assert grey(built(bytes(16), told | {tag: 1})).shape == (4, 4)
    with pytest.raises(DamagedImage, match="page for each slice"):
        decode(built(bytes(64), told | {tag: 4}), max_pixels=LIMIT)


def test_a_jpeg_of_12_bits_and_an_odd_width_is_refused() -> None:
    """Decoded, its last column would be 0; that of tiles lies beyond the picture, or is even."""
    told: Tags = {258: 12, 259: 7, 273: 8, 278: 4, 279: 16}
    assert pixels_to_decode(built(bytes(16), PLAIN | told), max_pixels=LIMIT) > 0
    with pytest.raises(DamagedImage, match="last column"):
        pixels_to_decode(built(bytes(16), PLAIN | told | {256: 5}), max_pixels=LIMIT)
    tiled = {tag: kept for tag, kept in (PLAIN | told).items() if tag not in {273, 278, 279}}
    tiled |= {256: 5, 322: 16, 323: 16, 324: 8, 325: 16}
    assert pixels_to_decode(built(bytes(16), tiled), max_pixels=LIMIT) > 0


@pytest.mark.parametrize(
    ("levels", "mask", "is_binary"),
    [
        ([0, -1, 0], [False, True, False], True),
        ([-1, -1, -1], [True, True, True], True),
        ([-1, 5, -1], [False, True, False], False),
    ],
    ids=["and 0", "alone", "and a higher one"],
)
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_a_negative_level_of_a_mask_is_one_like_others(
    dtype: type[np.generic], levels: list[int], mask: list[bool], is_binary: bool
) -> None:
    read = decode_mask(tiff(np.array([levels], dtype), GREY), max_pixels=LIMIT)
    assert read.is_binary is is_binary
    assert read.mask.tolist() == [mask]


@pytest.mark.parametrize("kind", [1, SHORT, LONG], ids=["byte", "short", "long"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.float32])
def test_a_picture_is_turned_upright_whatever_its_levels(dtype: type[np.generic], kind: int) -> None:
    stored = np.arange(0, 60, 10).reshape(2, 3).astype(dtype)
    upload = tiff(stored, GREY)
    assert struct.pack("<HHIHH", 284, SHORT, 1, 1, 0) in upload
    turned = upload.replace(struct.pack("<HHIHH", 284, SHORT, 1, 1, 0), struct.pack("<HHII", 274, kind, 1, 6))
    np.testing.assert_array_equal(grey(turned), np.rot90(grey(upload), -1))

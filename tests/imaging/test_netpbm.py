"""Our own reader of Netpbm, against Pillow's where that is exact and by hand elsewhere."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import DamagedImage, ImageTooLarge
from service.imaging.decode import decode_mask
from service.imaging.netpbm import KINDS, read
from tests.imaging.pictures import encoded, noise

LIMIT = 10_000


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "F", "I;16"])
def test_pillow_reads_the_same(mode: str) -> None:
    source = noise(11, 13, 3) if mode == "RGB" else noise(11, 13)
    image = Image.fromarray(source.astype(np.uint16) * 250) if mode == "I;16" else Image.fromarray(source).convert(mode)
    upload = encoded(image, "PPM")
    with Image.open(io.BytesIO(upload)) as pillows:
        expected = np.asarray(pillows.convert("L") if mode == "1" else pillows)
        np.testing.assert_array_equal(np.asarray(read(upload, LIMIT)), expected)


@settings(max_examples=50, deadline=None)
@given(largest=st.integers(1, 65534), data=st.data())
def test_levels_are_scaled_from_the_declared_largest(largest: int, data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.integers(0, largest), min_size=6, max_size=6))
    plain = b"P2 3 2 %d\n" % largest + b" ".join(b"%d" % level for level in levels)
    binary = b"P5 3 2 %d\n" % largest + b"".join(struct.pack(">H" if largest > 255 else "B", level) for level in levels)
    expected = [max((level * 255 + largest // 2) // largest, int(level > 0)) for level in levels]
    for upload in (plain, binary):
        assert np.asarray(read(upload, LIMIT)).ravel().tolist() == expected


@pytest.mark.parametrize("largest", [1, 255, 511, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [b"P2", b"P3", b"P5", b"P6"])
def test_a_mask_of_0_and_1_is_one_whatever_the_declared_largest(kind: bytes, largest: int) -> None:
    levels = np.array([[0, 1, 0], [1, 1, 0]])
    stored = np.repeat(levels, 3) if kind in {b"P3", b"P6"} else levels.ravel()
    is_plain = kind in {b"P2", b"P3"}
    samples = b" ".join(b"%d" % level for level in stored)
    if not is_plain:
        samples = stored.astype(">u2" if largest > 255 else "u1").tobytes()
    read = decode_mask(b"%s 3 2 %d\n" % (kind, largest) + samples, max_pixels=LIMIT)
    assert read.is_binary
    np.testing.assert_array_equal(read.mask, levels > 0)


@pytest.mark.parametrize("kind", [b"P3", b"P6"])
def test_colours_of_sixteen_bits_are_their_upper_bytes_as_in_other_formats(kind: bytes) -> None:
    colours = np.array([[0, 255, 256], [511, 33023, 65535]])
    plain = b" ".join(b"%d" % level for level in colours.ravel())
    samples = plain if kind == b"P3" else colours.astype(">u2").tobytes()
    assert np.asarray(read(kind + b" 2 1 65535\n" + samples, LIMIT)).tolist() == [[[0, 0, 1], [1, 128, 255]]]


def test_levels_above_the_declared_largest_are_white() -> None:
    assert np.asarray(read(b"P2 2 1 100 50 4000000000", LIMIT)).tolist() == [[128, 255]]


def test_comments_and_odd_gaps_are_skipped() -> None:
    upload = b"P3# made by hand\n# twice\r\n 2\t1 # size\n10\n 10 0 5\n# more\n0 0 10"
    assert np.asarray(read(upload, LIMIT)).tolist() == [[[255, 0, 128], [0, 0, 255]]]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["Unix", "Windows"])
def test_a_comment_behind_the_last_number_is_no_part_of_the_pixels(line_end: bytes) -> None:
    upload = b"P5 3 1 255# made by hand" + line_end + b"\x20\x0a\x23"
    assert np.asarray(read(upload, LIMIT)).tolist() == [[0x20, 0x0A, 0x23]]


def test_plain_bitmap_digits_may_touch() -> None:
    assert np.asarray(read(b"P1 3 2\n010 1#\n1 0", LIMIT)).tolist() == [[255, 0, 255], [0, 0, 255]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_float_rows_run_upwards_in_either_byte_order(order: str) -> None:
    upload = b"Pf 1 3 %s1.0\n" % (b"-" if order == "<" else b"") + struct.pack(f"{order}3f", 1.5, 2.5, 3.5)
    assert np.asarray(read(upload, LIMIT)).ravel().tolist() == [3.5, 2.5, 1.5]


@pytest.mark.parametrize(
    "upload",
    [
        *(kind + header for kind in KINDS for header in (b"", b" 3", b" x 3 255\n", b" 3 x 255\n")),
        b"P5 -3 4 255\n" + b"\0" * 12,
        b"P5 3 4 0\n" + b"\0" * 12,
        b"P5 3 4 65536\n" + b"\0" * 24,
        b"P5 3 4 255\n" + b"\0" * 11,
        b"P6 3 4 300\n" + b"\0" * 71,
        b"P4 9 4\n" + b"\0" * 7,
        b"Pf 2 2 0\n" + b"\0" * 16,
        b"Pf 2 2 nan\n" + b"\0" * 16,
        b"Pf 2 2 1e\n" + b"\0" * 16,
        b"P2 2 2 255\n1 2 3",
        b"P2 2 2 255\n1 2 3 x",
        b"P2 2 2 255\n1 2 -3 4",
        b"P1 2 2\n0 1 2 1",
        b"P2 1 1 255\n" + b"#\n" * 20_000 + b"7",
        b"P5" + b" " * 100_000 + b"1 1 255\n7",
        b"P5\n#" + b"x" * 100_000 + b"\n1 1 255\n7",
    ],
)
def test_nonsense_and_missing_pixels_are_damage(upload: bytes) -> None:
    with pytest.raises(DamagedImage):
        read(upload, LIMIT)


@pytest.mark.parametrize("header", [b"P2 9 4 255\n", b"P3 3 4 255\n"])
@pytest.mark.parametrize("gap", [b" ", b"\n", b"\r\n"])
def test_a_plain_picture_that_lacks_numbers_is_damage(header: bytes, gap: bytes) -> None:
    """However few: NumPy says nothing of them, and shows what lay in memory before."""
    numbers = [b"%d" % level for level in range(200, 236)]
    assert np.asarray(read(header + gap.join(numbers), LIMIT)).ravel().tolist() == [*range(200, 236)]
    for left in range(36):
        for end in (b"", gap, gap * 9):
            with pytest.raises(DamagedImage, match="cut short"):
                read(header + gap.join(numbers[:left]) + end, LIMIT)


@pytest.mark.parametrize(
    ("header", "samples", "levels"),
    [
        (b"P5\r\n2 1\r\n255\r\n", b"\7\10", [7, 8]),
        (b"P5\r\n2 1\r\n65535\r\n", b"\1\2\3\4", [258, 772]),
        (b"P4\r\n2 1\r\n", b"\x40", [255, 0]),
        (b"P5 2 1 255\r", b"\n\10", [10, 8]),
        (b"P5 2 1 255\r", b"\n\10 junk", [10, 8]),
        (b"P5 2 1 255\n", b"\r\10\n", [13, 8]),
    ],
    ids=["8 bits", "16 bits", "1 bit", "a sample like a line end", "and junk", "one byte behind"],
)
def test_a_header_may_end_with_the_line_end_of_windows(header: bytes, samples: bytes, levels: list[int]) -> None:
    """Taken for a sample, its second byte would shift all others, and turn colours and deep levels into noise."""
    assert np.asarray(read(header + samples, LIMIT)).ravel().tolist() == levels


def test_size_is_checked_before_pixels_are_looked_at() -> None:
    with pytest.raises(ImageTooLarge):
        read(b"P6 999999999 999999999 255\n", LIMIT)

"""Every kind of picture becomes 8-bit RGB by one rule."""

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from service.errors import DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging import levels
from service.imaging import png as png_chunks
from service.imaging.decode import decode, decode_mask
from service.imaging.opening import SIGNATURES
from tests.imaging.pictures import encoded, noise, rgb_png

LIMIT = 1_000_000


def pixels(upload: bytes) -> NDArray[np.uint8]:
    return decode(upload, max_pixels=LIMIT).pixels


def grey(upload: bytes) -> list[int]:
    """The levels of the first row, which must be grey."""
    decoded = pixels(upload)
    assert (decoded == decoded[..., :1]).all()
    levels: list[int] = decoded[0, :, 0].tolist()
    return levels


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows: NDArray[np.uint8], *, width: int, depth: int, key: tuple[int, ...]) -> bytes:
    """Return a PNG of packed grey or, with three values in its transparent `key`, of colours. Pillow writes not all."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, 2 if len(key) == 3 else 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(f">{len(key)}H", *key)), (b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in [*chunks, (b"IEND", b"")])


def tiff(levels: NDArray[np.generic]) -> bytes:
    return encoded(Image.fromarray(levels), "TIFF")


@pytest.mark.parametrize("format_", SIGNATURES)
def test_every_format_is_read_and_named(format_: str) -> None:
    image = noise(30, 40, 3)
    decoded = decode(encoded(Image.fromarray(image), format_), max_pixels=LIMIT)
    assert decoded.format == format_.lower()
    assert decoded.pixels.shape == (30, 40, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.writeable
    if format_ != "JPEG":
        np.testing.assert_array_equal(decoded.pixels, image)


def test_one_bit_becomes_black_and_white() -> None:
    assert grey(encoded(Image.fromarray(np.array([[True, False, True]])), "PNG")) == [255, 0, 255]


def test_a_palette_becomes_its_colours() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([1, 2, 3, 40, 50, 60, 255, 0, 9])
    assert pixels(encoded(image, "PNG")).tolist() == [[[1, 2, 3], [40, 50, 60], [255, 0, 9]]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_over_black(mode: str) -> None:
    image = Image.new("RGBA", (3, 1), (200, 200, 200, 255))
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    assert grey(encoded(image.convert(mode), "PNG")) == [0, 100, 200]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_a_picture_that_is_transparent_everywhere_is_read_as_if_it_were_opaque(format_: str) -> None:
    image = np.dstack([noise(9, 8, 3), np.zeros((9, 8), np.uint8)])
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(image), format_)), image[..., :3])


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_level_of_few_bits_becomes_black(bits: int) -> None:
    upload = png(np.array([[0x1B]], np.uint8), width=8 // bits, depth=bits, key=(1,))
    assert grey(upload) == ([0, 0, 170, 255] if bits == 2 else [0, 187])


def test_a_transparent_colour_of_sixteen_bits_is_compared_by_its_upper_bytes() -> None:
    levels = np.array([[[0x0707] * 3, [0x9999] * 3, [0x0102] * 3]], ">u2")
    upload = png(levels.view(np.uint8).reshape(1, -1), width=3, depth=16, key=(0x9999,) * 3)
    assert grey(upload) == [7, 0, 1]


def test_a_palette_png_without_a_palette_is_damaged() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([1, 2, 3, 40, 50, 60, 255, 0, 9])
    upload = encoded(image, "PNG")
    at = upload.index(b"PLTE") - 4
    empty = bytes(4) + b"PLTE" + zlib.crc32(b"PLTE").to_bytes(4)
    for instead in (b"", empty):
        with pytest.raises(DamagedImage, match="palette"):
            pixels(upload[:at] + instead + upload[at + 12 + 9 :])


def before_pixels(upload: bytes) -> int:
    """Where the PNG's first chunk of pixels begins."""
    return upload.index(b"IDAT") - 4


def test_what_pillow_finds_wrong_with_a_loaded_picture_is_a_fault_of_the_file() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([1, 2, 3, 40, 50, 60, 255, 0, 9])
    upload = encoded(image, "PNG")
    at = before_pixels(upload)
    with pytest.raises(DamagedImage) as refused:
        pixels(upload[:at] + chunk(b"tRNS", bytes(300)) + upload[at:])
    assert "palette index" in str(refused.value.__cause__)


@pytest.mark.parametrize(("read", "step"), [(decode, "to_rgb"), (decode_mask, "foreground")])
def test_a_bug_in_the_rule_is_not_told_as_a_fault_of_the_image(
    monkeypatch: pytest.MonkeyPatch, read: Callable[..., object], step: str
) -> None:
    monkeypatch.setattr(levels, step, lambda image: np.zeros(3) + np.zeros(4))
    with pytest.raises(ValueError, match="broadcast"):
        read(rgb_png(), max_pixels=LIMIT)


def test_levels_with_which_the_rule_cannot_reckon_are_a_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "to_rgb", lambda image: 1 / 0)
    with pytest.raises(DamagedImage):
        pixels(rgb_png())


@pytest.mark.parametrize("owner", [levels, Image.Image])
def test_want_of_memory_is_no_fault_of_an_image_within_the_limits(monkeypatch: pytest.MonkeyPatch, owner: Any) -> None:
    monkeypatch.setattr(owner, "to_rgb" if owner is levels else "load", lambda image: np.empty(1 << 56))
    with pytest.raises(MemoryError):
        pixels(rgb_png())


def test_what_our_own_readers_cannot_bear_is_damaged_and_logged_without_its_content(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(upload: bytes) -> None:
        raise KeyError(upload)

    monkeypatch.setattr(png_chunks, "essential", fail)
    caplog.set_level(logging.INFO)
    with pytest.raises(DamagedImage):
        pixels(rgb_png())
    (line,) = caplog.messages
    assert line.startswith(f"an image is taken for damaged: KeyError in {__name__}, line ")


def test_what_pillow_says_of_damaged_files_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(DamagedImage):
        pixels(rgb_png()[:60])
    assert caplog.messages == []


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_a_transparent_palette_entry_becomes_black(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([10, 10, 10, 90, 90, 90, 250, 250, 250])
    assert grey(encoded(image, "PNG", transparency=transparency)) == [10, 0, 250]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_grey_level_becomes_black(dtype: type[np.generic]) -> None:
    image = Image.fromarray(np.array([[7, 90, 255]], dtype))
    assert grey(encoded(image, "PNG", transparency=90)) == [7, 0, 255]


@pytest.mark.parametrize(
    ("levels", "key", "expected"),
    [
        ([0, 1023, 65535], 65535, [0, 255, 0]),
        ([20_000, 22_000, 24_000, 0], 0, [0, 128, 255, 0]),
        ([20_000, 22_000, 24_000, 65535], 65535, [0, 128, 255, 0]),
    ],
    ids=["above 10 bits", "below a window of its own", "above one"],
)
def test_a_transparent_level_does_not_widen_the_window(levels: list[int], key: int, expected: list[int]) -> None:
    image = Image.fromarray(np.array([levels], np.uint16))
    assert grey(encoded(image, "PNG", transparency=key)) == expected


def test_a_deep_picture_that_is_transparent_everywhere_is_read_as_if_it_were_opaque() -> None:
    deep = Image.fromarray(np.full((3, 3), 40_000, np.uint16))
    seen = grey(encoded(deep, "PNG"))
    assert seen[0] > 0
    assert grey(encoded(deep, "PNG", transparency=40_000)) == seen


def test_a_transparent_colour_of_sixteen_bits_becomes_black() -> None:
    """Pillow reads the upper bytes of the pixels, and keeps the colour as the file has it."""
    key, other = struct.pack(">HHH", 0x4012, 0x8034, 0xC056), struct.pack(">HHH", 0x1112, 0x2222, 0x3333)
    rows = zlib.compress(b"\0" + key + other)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"tRNS", key) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert pixels(b"\x89PNG\r\n\x1a\n" + body).tolist() == [[[0, 0, 0], [0x11, 0x22, 0x33]]]


def test_cmyk_jpeg_looks_like_its_rgb() -> None:
    image = Image.fromarray(noise(32, 32, 3)).resize((64, 64), Image.Resampling.BICUBIC)
    back = pixels(encoded(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(back.astype(int) - np.asarray(image)).mean() < 6


def test_lab_becomes_rgb() -> None:
    image = Image.fromarray(noise(8, 8, 3)).convert("RGB")
    back = pixels(encoded(image.convert("LAB"), "TIFF"))
    assert np.abs(back.astype(int) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize(
    ("largest", "top"),
    [(1, 255), (200, 255), (255, 255), (600, 1023), (1000, 1023), (4095, 4095), (9000, 16383), (40000, 65535)],
)
def test_deep_grey_is_seen_through_the_smallest_window_that_holds_it(largest: int, top: int) -> None:
    levels = np.array([[0, largest // 2, largest]], np.uint16)
    expected = [round(int(level) * 255 / top) for level in levels[0]]
    assert grey(encoded(Image.fromarray(levels), "PNG")) == expected
    assert grey(tiff(levels)) == expected
    assert grey(tiff(levels.astype(np.int32))) == expected


@pytest.mark.parametrize("levels", [[256, 380, 512], [0, 100, 256], [20000, 20040, 20100], [0, 12000, 25500]])
def test_deep_grey_that_fills_less_than_half_of_its_window_has_one_of_its_own(levels: list[int]) -> None:
    expected = [0, round((levels[1] - levels[0]) * 255 / (levels[2] - levels[0])), 255]
    assert grey(encoded(Image.fromarray(np.array([levels], np.uint16)), "PNG")) == expected
    assert grey(tiff(np.array([levels], np.uint16))) == expected


def test_deep_grey_of_one_level_keeps_the_window_of_its_bits() -> None:
    assert grey(tiff(np.full((1, 2), 4095, np.uint16))) == [255, 255]
    assert grey(tiff(np.full((1, 2), 20000, np.uint16))) == [78, 78]


def test_negative_levels_become_black() -> None:
    assert grey(tiff(np.array([[-1000, 0, 1023]], np.int32))) == [0, 0, 255]
    assert grey(tiff(np.array([[-7, -1000]], np.int32))) == [0, 0]


def test_negative_levels_do_not_widen_the_window_of_the_others() -> None:
    assert grey(tiff(np.array([[-100, 0, 100, 300]], np.int32))) == [0, 0, 85, 255]


def test_thirty_two_bit_levels_are_seen_through_a_window_of_their_own() -> None:
    assert grey(tiff(np.array([[0, 2**29, 2**30 - 1]], np.int32))) == [0, 128, 255]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([1000.0, 1500.0, 2000.0], [0, 128, 255]),
        ([0.0, np.nan, np.inf, 1.0], [0, 0, 255, 255]),
        ([-np.inf, 0.25, 1.0], [0, 64, 255]),
        ([700.0, 700.0], [0, 0]),
        ([1e30, 1e30], [0, 0]),
        ([-3e38, 3e38], [0, 255]),
        ([0.0, 0.0], [0, 0]),
    ],
)
def test_float_levels_follow_the_rule(levels: list[float], expected: list[int]) -> None:
    assert grey(tiff(np.array([levels], np.float32))) == expected


def test_a_signalling_nan_is_black_too() -> None:
    levels = np.array([[0x7F80_0001, 0x3F80_0000]], np.uint32).view(np.float32)
    assert grey(tiff(levels)) == [0, 255]


def test_a_float_picture_without_a_finite_value_is_damaged() -> None:
    with pytest.raises(DamagedImage):
        decode(tiff(np.full((4, 4), np.nan, np.float32)), max_pixels=LIMIT)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_to_images_and_masks(format_: str, orientation: int) -> None:
    upright = Image.fromarray(np.repeat(np.repeat(np.array([[0, 255, 0], [255, 255, 0]], np.uint8), 16, 0), 16, 1))
    stored_for = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(stored_for[orientation]) if orientation in stored_for else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    upload = encoded(stored, format_, exif=exif)
    np.testing.assert_array_equal(pixels(upload)[..., 0] > 127, np.asarray(upright) > 127)
    np.testing.assert_array_equal(decode_mask(upload, max_pixels=LIMIT).mask, np.asarray(upright) > 127)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF"])
def test_an_orientation_in_xmp_alone_turns_nothing(format_: str) -> None:
    """Browsers and viewers pay no attention to it, and the mask is laid over what they show."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = Image.fromarray(noise(24, 40, 3))
    options: dict[str, object] = {"xmp": xmp} if format_ == "JPEG" else {}
    if format_ == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"] = texts
    elif format_ == "TIFF":
        options["tiffinfo"] = {700: xmp}
    upload = encoded(image, format_, **options)
    assert b"tiff:Orientation" in upload
    assert pixels(upload).shape == (24, 40, 3)


@pytest.mark.parametrize("own", [1, 3, 6])
def test_an_orientation_in_the_text_of_a_png_turns_nothing(own: int) -> None:
    """ImageMagick keeps EXIF there; browsers look into the eXIf chunk alone."""
    image = Image.fromarray(noise(24, 40, 3))
    exif, other = Image.Exif(), Image.Exif()
    exif[0x0112], other[0x0112] = own, 8
    texts = PngImagePlugin.PngInfo()
    block = b"Exif\0\0" + other.tobytes().removeprefix(b"Exif\0\0")
    texts.add_text("Raw profile type exif", f"\nexif\n{len(block):8d}\n{block.hex()}\n", zip=True)
    upload = encoded(image, "PNG", pnginfo=texts, **({} if own == 1 else {"exif": exif}))
    np.testing.assert_array_equal(pixels(upload), np.rot90(np.asarray(image), {1: 0, 3: 2, 6: -1}[own]))


def test_a_broken_exif_block_does_not_fail_a_sound_image() -> None:
    upload = encoded(Image.fromarray(noise(16, 16, 3)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert pixels(upload).shape == (16, 16, 3)


def test_too_many_pixels_are_refused_from_the_header_alone() -> None:
    header = rgb_png(100, 101)[:41]
    with pytest.raises(ImageTooLarge, match="101 × 100"):
        decode(header, max_pixels=10_000)
    with pytest.raises(DamagedImage):
        decode(header, max_pixels=10_100)


def test_the_limit_is_ours_and_not_pillows() -> None:
    upload = encoded(Image.new("1", (13_500, 13_500)), "PNG")
    pillows_limit = Image.MAX_IMAGE_PIXELS
    assert pillows_limit is not None
    assert 2 * pillows_limit < 13_500**2
    assert decode_mask(upload, max_pixels=200_000_000).mask.shape == (13_500, 13_500)
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "upload",
    [b"", b"\0", b"<html></html>", b"GIF89a\1\0\1\0", b"RIFF\0\0\0\0WEBP", b"PK\3\4", b"\0" * 128 + b"DICM", b"P7\n"],
)
def test_other_formats_are_unknown(upload: bytes) -> None:
    with pytest.raises(UnknownImageFormat):
        decode(upload, max_pixels=LIMIT)


def test_dicom_whose_preamble_looks_like_tiff_is_unknown() -> None:
    with pytest.raises(UnknownImageFormat):
        decode(b"II*\0" + b"\0" * 124 + b"DICM", max_pixels=LIMIT)


@pytest.mark.parametrize("format_", SIGNATURES)
def test_a_file_cut_short_is_damaged(format_: str) -> None:
    upload = encoded(Image.fromarray(noise(64, 64, 3)), format_)
    for kept in (len(upload) // 2, len(upload) * 9 // 10):
        with pytest.raises(DamagedImage):
            decode(upload[:kept], max_pixels=LIMIT)


def test_an_image_without_pixels_is_damaged() -> None:
    with pytest.raises(DamagedImage):
        decode(b"P5 0 7 255\n", max_pixels=LIMIT)


def animated_png() -> bytes:
    frames = [Image.new("L", (5, 4), level) for level in (10, 20, 30)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def two_page_tiff() -> bytes:
    pages = [Image.new("L", (5 + page, 4), 10 * (page + 1)) for page in range(3)]
    return encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("upload", [animated_png(), two_page_tiff()], ids=["png", "tiff"])
def test_a_frame_must_be_picked_and_is_then_read(upload: bytes) -> None:
    for frame in (None, 3, -1):
        with pytest.raises(FrameNeeded, match=r"3 frames.*frame="):
            decode(upload, max_pixels=LIMIT, frame=frame)
    for frame in (0, 1, 2):
        decoded = decode(upload, max_pixels=LIMIT, frame=frame)
        assert (decoded.pixels == 10 * (frame + 1)).all()


def test_the_limit_holds_for_the_page_that_is_picked() -> None:
    small, large = Image.new("L", (5, 5)), Image.new("L", (50, 50))
    upload = encoded(small, "TIFF", save_all=True, append_images=[large])
    assert decode(upload, max_pixels=100, frame=0).pixels.shape == (5, 5, 3)
    with pytest.raises(ImageTooLarge):
        decode(upload, max_pixels=100, frame=1)


def test_a_single_picture_has_frame_zero_only() -> None:
    assert decode(rgb_png(), max_pixels=LIMIT, frame=0).format == "png"
    with pytest.raises(FrameNeeded, match="1 frame"):
        decode(rgb_png(), max_pixels=LIMIT, frame=1)


def test_a_phone_picture_with_a_second_one_inside_is_its_first() -> None:
    upload = encoded(Image.new("L", (40, 24), 200), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    with Image.open(io.BytesIO(upload)) as opened:
        assert opened.format == "MPO"
    decoded = decode(upload, max_pixels=LIMIT)
    assert decoded.format == "jpeg"
    assert decoded.pixels.shape == (24, 40, 3)


@pytest.mark.parametrize(
    "stored",
    [
        np.array([[0, 255, 0]], np.uint8),
        np.array([[0, 1, 0]], np.uint8),
        np.array([[0, 65535, 0]], np.uint16),
        np.array([[0, 3, 0]], np.uint16),
        np.array([[False, True, False]]),
        np.array([[0, 1, 0]], np.int32),
        np.array([[np.nan, 0.25, 0]], np.float32),
        np.array([[[0, 0, 0], [255, 255, 255], [0, 0, 0]]], np.uint8),
        np.array([[[0, 0, 0], [128, 0, 0], [0, 0, 0]]], np.uint8),
        np.array([[[0, 0, 0, 255], [255, 255, 255, 0], [0, 0, 0, 9]]], np.uint8),
    ],
    ids=lambda stored: f"{stored.dtype}-{stored.ndim}-{stored.max()}",
)
def test_a_mask_of_two_levels_is_binary_whatever_they_are(stored: NDArray[np.generic]) -> None:
    read = decode_mask(tiff(stored), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[False, True, False]]


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_mask_of_one_level_is_binary(level: int) -> None:
    read = decode_mask(tiff(np.full((3, 3), level, np.uint8)), max_pixels=LIMIT)
    assert read.is_binary
    assert (read.mask == (level > 0)).all()


def test_a_palette_mask_is_binary_by_its_colours() -> None:
    image = Image.fromarray(np.array([[0, 1, 0]], np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0])
    read = decode_mask(encoded(image, "PNG", transparency=0), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    "stored",
    [
        np.array([[0, 127, 128, 255]], np.uint8),
        np.array([[0, 30_000, 40_000, 65_535]], np.uint16),
        np.array([[0.0, 0.25, 0.75, 1.0]], np.float32),
    ],
    ids=lambda stored: str(stored.dtype),
)
def test_a_mask_of_more_levels_is_cut_at_half_its_range(stored: NDArray[np.generic]) -> None:
    read = decode_mask(tiff(stored), max_pixels=LIMIT)
    assert not read.is_binary
    assert read.mask.tolist() == [[False, False, True, True]]


def test_a_mask_of_8_bits_is_cut_at_half_of_all_they_hold_though_it_has_less() -> None:
    read = decode_mask(tiff(np.array([[0, 60, 120, 130]], np.uint8)), max_pixels=LIMIT)
    assert read.mask.tolist() == [[False, False, False, True]]


def test_the_levels_of_each_part_of_a_large_mask_count() -> None:
    stored = np.zeros((1025, 1024), np.uint8)  # a row more than is looked at at a time
    stored[0, 0], stored[-1, 0] = 200, 255
    read = decode_mask(encoded(Image.fromarray(stored), "PNG"), max_pixels=stored.size)
    assert not read.is_binary
    assert np.argwhere(read.mask).tolist() == [[0, 0], [1024, 0]]


@pytest.mark.parametrize("alpha", [9, 255])
def test_an_alpha_that_does_not_vary_is_no_mask(alpha: int) -> None:
    read = decode_mask(tiff(np.tile(np.array([0, 0, 0, alpha], np.uint8), (3, 3, 1))), max_pixels=LIMIT)
    assert not read.mask.any()


@pytest.mark.parametrize("level", [0, 9])
def test_a_deep_mask_of_one_level_is_read_though_a_level_is_called_transparent(level: int) -> None:
    deep = Image.fromarray(np.full((3, 3), level, np.uint16))
    read = decode_mask(encoded(deep, "PNG", transparency=level), max_pixels=LIMIT)
    assert (read.mask == (level > 0)).all()


@pytest.mark.parametrize(("low", "high"), [(1, 2), (128, 255)])
def test_of_two_levels_other_than_zero_the_higher_is_foreground_but_not_without_a_word(low: int, high: int) -> None:
    read = decode_mask(tiff(np.tile(np.array([low, high, low], np.uint8), (9, 1))), max_pixels=LIMIT)
    assert read.mask.tolist() == [[False, True, False]] * 9
    assert not read.is_binary


@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 0, 1), (0, 0, 2)])
def test_a_colour_too_dark_to_have_a_luma_is_foreground(colour: tuple[int, int, int]) -> None:
    read = decode_mask(tiff(np.array([[[0, 0, 0], colour, [0, 0, 0]]], np.uint8)), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[False, True, False]]


def multiplied(image: Image.Image) -> bytes:
    """Return a TIFF of `image`, LA or RGBA, whose alpha is said to be multiplied in already."""
    apart, multiplied_in = (struct.pack("<HHII", 338, 3, 1, value) for value in (2, 1))
    upload = encoded(image, "TIFF")
    assert apart in upload
    return upload.replace(apart, multiplied_in)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_that_is_multiplied_in_already_is_not_multiplied_in_again(mode: str) -> None:
    image = Image.new("RGBA", (4, 1))
    for x, (level, alpha) in enumerate([(200, 255), (100, 128), (0, 0), (40, 64)]):
        image.putpixel((x, 0), (level, level, level, alpha))
    np.testing.assert_allclose(grey(multiplied(image.convert(mode))), [200, 100, 0, 40], atol=1)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_whose_alpha_is_multiplied_in_is_read(mode: str) -> None:
    image = Image.new("RGBA", (3, 1), (255, 255, 255, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert decode_mask(multiplied(image.convert(mode)), max_pixels=LIMIT).mask.tolist() == [[True, False, True]]
    image.paste((0, 0, 0), (0, 0, 3, 1))
    image.putalpha(Image.fromarray(np.array([[0, 255, 0]], np.uint8)))
    read = decode_mask(multiplied(image.convert(mode)), max_pixels=LIMIT)
    assert read.mask.tolist() == [[False, True, False]]


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_the_mask_where_nothing_else_varies(mode: str, grey: int) -> None:
    image = Image.new("RGBA", (3, 1), (grey, grey, grey, 255))
    image.putalpha(Image.fromarray(np.array([[0, 255, 0]], np.uint8)))
    read = decode_mask(encoded(image.convert(mode), "PNG"), max_pixels=LIMIT)
    assert read.is_binary
    assert read.mask.tolist() == [[False, True, False]]


def test_threads_that_decode_at_once_leave_the_warning_filters_as_they_were() -> None:
    upload = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [pixels(upload) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before

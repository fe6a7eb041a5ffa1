"""Small files that would take minutes are refused before they do."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage, ImageTooLarge
from service.imaging import workload
from service.imaging.decode import decode
from service.imaging.opening import pixels_to_decode
from tests.imaging.pictures import encoded, noise, rgb_png
from tests.imaging.test_deep_tiff import directory

LIMIT = 1_000_000
JPEG = encoded(Image.fromarray(noise(32, 32, 3)), "JPEG", progressive=True)


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1)], ids=["row", "column"])
def test_an_image_of_few_pixels_but_a_longer_side_than_a_jpeg_can_have_is_refused(
    format_: str, shape: tuple[int, int]
) -> None:
    longest, longer = noise(*shape), noise(*(side + (side > 1) for side in shape))
    assert decode(encoded(Image.fromarray(longest), format_), max_pixels=LIMIT).pixels.shape == (*shape, 3)
    with pytest.raises(ImageTooLarge, match="a side"):
        decode(encoded(Image.fromarray(longer), format_), max_pixels=LIMIT)


@pytest.mark.parametrize("at", [33, -12], ids=["before the pixels", "behind them"])
def test_a_png_of_too_many_chunks_is_refused(at: int) -> None:
    upload = rgb_png()
    few, many = (upload[:at] + chunk(b"prVt") * count + upload[at:] for count in (1000, 200_000))
    assert decode(few, max_pixels=LIMIT).format == "png"
    with pytest.raises(DamagedImage, match="chunks"):
        decode(many, max_pixels=LIMIT)


def test_a_large_png_may_have_its_pixels_in_many_chunks() -> None:
    few = encoded(Image.fromarray(np.zeros((3600, 3600), np.uint8)), "PNG", compress_level=0)
    start, end = few.index(b"IDAT") - 4, few.rindex(b"IEND") - 4
    data = zlib.compress(bytes(3600 * 3601), 0)
    many = b"".join(chunk(b"IDAT", data[at : at + 1012]) for at in range(0, len(data), 1012))
    assert many.count(b"IDAT") > 12_000
    assert decode(few[:start] + many + few[end:], max_pixels=10**8).pixels.shape == (3600, 3600, 3)


def test_a_png_of_several_colour_profiles_is_refused() -> None:
    """Each may inflate to a megabyte, and a file has room for thousands."""
    upload, profile = rgb_png(), chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1_000_000)))
    assert decode(upload[:33] + profile + upload[33:], max_pixels=LIMIT).format == "png"
    with pytest.raises(DamagedImage, match="colour profile"):
        decode(upload[:33] + profile * 2 + upload[33:], max_pixels=LIMIT)


@pytest.mark.parametrize(("marker", "beginning"), [(b"\xe1", b"Exif\0\0"), (b"\xed", b"Photoshop 3.0\0")])
def test_a_jpeg_of_more_metadata_than_is_taken_apart_is_refused(marker: bytes, beginning: bytes) -> None:
    segment = b"\xff" + marker + struct.pack(">H", 65_535) + beginning.ljust(65_533, b"\0")
    other = b"\xff" + marker + struct.pack(">H", 65_535) + bytes(65_533)
    assert decode(JPEG[:20] + segment + other * 20 + JPEG[20:], max_pixels=LIMIT).format == "jpeg"
    with pytest.raises(DamagedImage, match="header"):
        decode(JPEG[:20] + segment * 20 + JPEG[20:], max_pixels=LIMIT)


@pytest.mark.parametrize("junk", [b"\1", b"\xff", b"\xff\xd0", b"\xff\xfe\0\2", b"\xff\0"])
def test_a_jpeg_header_of_too_much_junk_is_refused(junk: bytes) -> None:
    some, much = (JPEG[:20] + junk * count + JPEG[20:] for count in (100, 1_000_000))
    assert decode(some, max_pixels=LIMIT).format == "jpeg"
    with pytest.raises(DamagedImage, match="header"):
        decode(much, max_pixels=LIMIT)


@pytest.mark.parametrize("marker", [b"\xc0", b"\xdb", b"\xf0", b"\xc8"], ids=["frames", "tables", "F0", "C8"])
def test_a_jpeg_of_segments_that_pillow_takes_apart_piece_by_piece_is_refused(marker: bytes) -> None:
    """30 MB of frames of 21,000 channels each became 900 MB of objects; F0 is junk to Pillow, all 64 KiB of it."""
    segment = b"\xff" + marker + struct.pack(">H", 65_522) + b"\x08\0\x20\0\x20\1" + bytes(65_514)
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="header"):
            refuse(JPEG[:20] + segment * 20 + JPEG[20:], max_pixels=LIMIT)


def test_a_jpeg_of_nothing_but_junk_is_refused_before_it_is_gone_through() -> None:
    """Looked at from each byte to the end, 20 MB would take days."""
    with pytest.raises(DamagedImage, match="header"):
        decode(b"\xff\xd8" + b"\xff" * 20_000_000, max_pixels=LIMIT)


def test_a_jpeg_with_large_metadata_is_read() -> None:
    segment = b"\xff\xe5" + struct.pack(">H", 65_535) + b"\xff\xda" * 32_766 + b"\0"
    assert decode(JPEG[:20] + segment * 20 + JPEG[20:], max_pixels=1_000_000_000).format == "jpeg"


def test_a_jpeg_that_goes_over_its_pixels_too_often_is_refused() -> None:
    last_scan = JPEG[JPEG.rindex(b"\xff\xda") : -2]
    upload = JPEG[:-2] + last_scan * 100 + JPEG[-2:]
    with pytest.raises(ImageTooLarge, match="times"):
        decode(upload, max_pixels=32 * 32)


VIDEO = np.random.default_rng(0).bytes(8 << 20)
"""Of which 8 MiB look like the beginnings of some 128 scans."""


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_a_video_behind_it_is_read_and_costs_what_it_costs_alone(progressive: bool) -> None:
    alone = encoded(Image.fromarray(noise(32, 32, 3)), "JPEG", progressive=progressive)
    assert VIDEO.count(b"\xff\xda") > 100
    for read in (decode, pixels_to_decode):
        read(alone + VIDEO, max_pixels=32 * 32)
    np.testing.assert_array_equal(
        decode(alone + VIDEO, max_pixels=LIMIT).pixels, decode(alone, max_pixels=LIMIT).pixels
    )
    assert pixels_to_decode(alone + VIDEO, max_pixels=LIMIT) == pixels_to_decode(alone, max_pixels=LIMIT)


@pytest.mark.parametrize(
    "between",
    [b"\xff\xfe\0\4\xff\xd9", b"\xff\2\x7f\xfc", b"\xff\1\x7f\xfc", b"\xff\xd3\x7f\xfc", b"\xff\0\xd9", b"\xff\xff"],
    ids=["an end in a comment", "a reserved marker", "TEM", "a restart", "no marker", "filling"],
)
def test_nothing_between_the_scans_of_a_jpeg_hides_them(between: bytes) -> None:
    """Where a restart is missing, libjpeg passes over the two bytes of a reserved marker, not over a segment."""
    last_scan = JPEG[JPEG.rindex(b"\xff\xda") : -2]
    upload = JPEG[:-2] + (between + last_scan) * 100 + JPEG[-2:]
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(ImageTooLarge, match="times"):
            refuse(upload + VIDEO, max_pixels=32 * 32)


def test_a_scan_whose_marker_straddles_two_searches_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = workload.count_jpeg_scans_to_end(JPEG, workload.check_jpeg_header(JPEG))
    assert scans > 5
    for searched in range(1, 40):
        monkeypatch.setattr(workload, "_SEARCHED_BYTES", searched)
        assert workload.count_jpeg_scans_to_end(JPEG, workload.check_jpeg_header(JPEG)) == scans


def test_how_often_a_jpeg_may_go_over_its_pixels_hangs_on_how_many_they_are() -> None:
    workload.check_jpeg_scans(50, LIMIT, LIMIT)
    workload.check_jpeg_scans(500, LIMIT // 10, LIMIT)
    with pytest.raises(ImageTooLarge, match="51 times"):
        workload.check_jpeg_scans(51, LIMIT, LIMIT)


def test_what_looks_like_a_scan_within_a_segment_is_none() -> None:
    comment = b"\xff\xfe" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
    upload = JPEG[:-2] + comment + JPEG[-2:]
    assert pixels_to_decode(upload, max_pixels=32 * 32) == 32 * 32
    assert decode(upload, max_pixels=32 * 32).format == "jpeg"


def test_in_a_jpeg_of_more_markers_than_any_has_all_that_looks_like_a_scan_counts() -> None:
    upload = JPEG[:-2] + b"\xff\xfe\0\2" * 20_000 + JPEG[-2:] + VIDEO
    first_scan = workload.check_jpeg_header(upload)
    assert workload.count_jpeg_scans_to_end(upload, first_scan) == upload.count(b"\xff\xda")


def deep_tiff(channels: int, rows: int, orientation: int) -> bytes:
    """Return a deflated TIFF of 256 × 256 pixels, 16 bits a channel, in strips of so many rows."""
    strip = zlib.compress(bytes(256 * rows * channels * 2))
    count, short, long = 256 // rows, 3, 4
    tags: dict[int, tuple[int, list[int]]] = {
        256: (long, [256]),
        257: (long, [256]),
        258: (short, [16] * channels),
        259: (short, [8]),
        262: (short, [2]),
        273: (long, [8] * count),
        274: (short, [orientation]),
        277: (short, [channels]),
        278: (long, [rows]),
        279: (long, [len(strip)] * count),
        **({338: (short, [2])} if channels == 4 else {}),
    }
    at = 8 + len(strip)
    return b"II*\0" + struct.pack("<I", at) + strip + directory(tags, "<", at)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("channels", "rows"), [(3, 16), (3, 256), (4, 16)])
def test_a_deep_tiff_is_read_if_its_strips_leave_room(channels: int, rows: int, orientation: int) -> None:
    """libtiff holds a whole strip, beside the picture as Pillow keeps it: 4 bytes and up to 6 a pixel."""
    decoded = decode(deep_tiff(channels, rows, orientation), max_pixels=256 * 256)
    assert decoded.pixels.shape == (256, 256, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_deep_tiff_whose_strips_leave_no_room_is_refused(orientation: int) -> None:
    upload = deep_tiff(4, 256, orientation)
    assert decode(upload, max_pixels=2 * 256 * 256).pixels.shape == (256, 256, 3)
    with pytest.raises(ImageTooLarge, match="smaller strips"):
        pixels_to_decode(upload, max_pixels=256 * 256)


@pytest.mark.parametrize(("mode", "progressive"), [("L", True), ("RGB", True), ("CMYK", False)])
def test_a_jpeg_is_read_if_its_coefficients_leave_room(mode: str, progressive: bool) -> None:
    upload = encoded(Image.new(mode, (64, 64)), "JPEG", progressive=progressive, subsampling=0)
    assert decode(upload, max_pixels=64 * 64).pixels.shape == (64, 64, 3)


def test_a_jpeg_whose_coefficients_leave_no_room_is_refused() -> None:
    """They are kept, 2 bytes each, if the first scan has not all of them: of a progressive JPEG, or of one channel."""
    picture = Image.new("CMYK", (64, 64))
    progressive, plain = (encoded(picture, "JPEG", progressive=way, subsampling=0) for way in (True, False))
    channels = plain.index(b"\xff\xda") + 4
    for upload in (progressive, plain[:channels] + b"\1" + plain[channels + 1 :]):
        assert pixels_to_decode(upload, max_pixels=2 * 64 * 64) >= 64 * 64
        with pytest.raises(ImageTooLarge, match="without progression"):
            pixels_to_decode(upload, max_pixels=64 * 64)


def rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    start = 14 + 40 + 1024
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    palette = b"".join(struct.pack("<BBBB", level, 7 * level % 256, 3, 0) for level in range(256))
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + info + palette + runs


def test_run_length_bmp_are_read_only_while_small() -> None:
    assert decode(rle_bmp(3, 2, b"\3\7\0\0\3\7\0\1"), max_pixels=10**8).pixels.shape == (2, 3, 3)
    for upload in (rle_bmp(50_000, 100, b"\0\2\xff\xff\0\1"), rle_bmp(9, 9, b"\1\7" * 3_000_000)):
        with pytest.raises(ImageTooLarge, match="uncompressed"):
            decode(upload, max_pixels=10**8)


@pytest.mark.parametrize("runs", [b"\3\7\0\0\2\7\0\1", b"\3\7\0\1", b"\3\7"], ids=["in a row", "of rows", "no end"])
def test_a_run_length_bmp_that_ends_early_says_so(runs: bytes) -> None:
    with pytest.raises(DamagedImage, match="before its last row is full; save it uncompressed"):
        decode(rle_bmp(3, 2, runs), max_pixels=LIMIT)


def test_an_animated_png_counts_all_frames_before_the_one_picked() -> None:
    frames = [Image.new("L", (50, 50), level) for level in range(4)]
    upload = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert decode(upload, max_pixels=5000, frame=1).pixels.shape == (50, 50, 3)
    with pytest.raises(ImageTooLarge):
        decode(upload, max_pixels=5000, frame=2)


@pytest.mark.parametrize(
    "name_and_head",
    [(b"zTXt", b"note\x00\x00"), (b"iTXt", b"note\x00\x01\x00\x00\x00"), (b"iCCP", b"icc\x00\x00")],
    ids=lambda one: one[0],
)
def test_text_that_inflates_without_end_is_refused_before_it_does(name_and_head: tuple[bytes, bytes]) -> None:
    name, head = name_and_head
    upload, bomb = rgb_png(), chunk(name, head + zlib.compress(bytes(80_000_000)))
    tracemalloc.start()
    with pytest.raises(DamagedImage, match="inflates without measure"):
        decode(upload[:33] + bomb + upload[33:], max_pixels=LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # of the 80 that it has


def test_long_texts_are_no_bombs() -> None:
    upload = rgb_png()
    long = zlib.compress(np.random.default_rng(0).integers(97, 123, 3_000_000, dtype=np.uint8).tobytes())
    texts = chunk(b"zTXt", b"note\x00\x00" + long) * 16 + chunk(b"iTXt", b"note\x00\x01\x00\x00\x00" + long)
    found = decode(upload[:33] + texts + upload[33:], max_pixels=LIMIT).pixels
    np.testing.assert_array_equal(found, decode(upload, max_pixels=LIMIT).pixels)


def test_runs_of_no_pixels_count_as_work() -> None:
    small = bytearray(encoded(Image.fromarray(np.zeros((8, 8), np.uint8)), "BMP"))
    small[30] = 1
    upload = bytes(small[: int.from_bytes(small[10:14], "little")]) + bytes(1_000_000)
    assert pixels_to_decode(upload, max_pixels=LIMIT) > 2_000_000


def test_a_thin_picture_counts_as_the_tiles_that_it_is_laid_on() -> None:
    thin, small = (encoded(Image.fromarray(noise(*shape)), "PNG") for shape in ((2, 9000), (64, 64)))
    assert pixels_to_decode(thin, max_pixels=LIMIT) == 18_000
    assert pixels_to_decode(thin, max_pixels=LIMIT, tile=(512, 512)) == 512 * 9000
    assert pixels_to_decode(small, max_pixels=LIMIT, tile=(512, 512)) == 64 * 64

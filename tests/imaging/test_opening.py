"""What an upload's header tells of the work that decoding it takes."""

import struct
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import BadUpload, DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging.decode import decode
from service.imaging.opening import pixels_to_decode
from tests.imaging.pictures import encoded, noise

HEIGHT, WIDTH = 24, 30
PIXELS = HEIGHT * WIDTH
LIMIT = 1_000_000
PICTURE = Image.fromarray(noise(HEIGHT, WIDTH, 3))
MORE = Image.fromarray(noise(HEIGHT, WIDTH, 3, seed=1))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "BMP", "PPM"])
def test_a_picture_counts_its_own_pixels(format_: str) -> None:
    assert pixels_to_decode(encoded(PICTURE, format_), max_pixels=PIXELS) == PIXELS


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "BMP"])
def test_none_of_them_is_decoded(format_: str) -> None:
    picture = Image.fromarray(noise(300, 300, 3))
    upload = encoded(picture, format_)
    assert pixels_to_decode(upload, max_pixels=LIMIT) == 90_000
    if format_ != "TIFF":  # whose directory may lie behind the pixels
        assert pixels_to_decode(upload[: len(upload) // 2], max_pixels=LIMIT) == 90_000


def test_a_tiff_counts_the_page_that_is_picked() -> None:
    upload = encoded(PICTURE, "TIFF", save_all=True, append_images=[Image.fromarray(noise(50, 60))])
    assert [pixels_to_decode(upload, max_pixels=LIMIT, frame=frame) for frame in (0, 1)] == [PIXELS, 3000]


def test_an_animated_png_counts_every_frame_up_to_the_one_picked() -> None:
    upload = encoded(PICTURE, "PNG", save_all=True, append_images=[MORE, PICTURE])
    found = [pixels_to_decode(upload, max_pixels=LIMIT, frame=frame) for frame in range(3)]
    assert found == [PIXELS, 2 * PIXELS, 3 * PIXELS]


def test_a_jpeg_counts_its_pixels_for_every_dozen_of_scans() -> None:
    upload = encoded(PICTURE, "JPEG", progressive=True)
    last_scan = upload[upload.rindex(b"\xff\xda") : -2]
    assert pixels_to_decode(upload, max_pixels=LIMIT) == PIXELS
    assert pixels_to_decode(upload[:-2] + last_scan * 36 + upload[-2:], max_pixels=LIMIT) == 4 * PIXELS


@pytest.mark.parametrize("rows", [HEIGHT, 8], ids=["one strip", "many strips"])
def test_a_jpeg_in_a_tiff_counts_as_one_outside(rows: int) -> None:
    plain = encoded(PICTURE, "TIFF", compression="jpeg", tiffinfo={278: rows})
    assert pixels_to_decode(plain, max_pixels=LIMIT) == PIXELS


def test_tiles_that_share_a_jpeg_count_its_scans_as_often_as_they_go_over_it() -> None:
    """Writers of slides store blank tiles once; of 64 tiles here two do so."""
    jpeg = encoded(Image.fromarray(noise(16, 16)), "JPEG")
    at = 8 + 2 + 12 * 9 + 4
    sizes = {256: 128, 257: 128, 258: 8, 259: 7, 262: 1, 277: 1, 322: 16, 323: 16}
    offsets = [at + 256 + number * len(jpeg) for number in range(63)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sizes.items()]
    entries.append(struct.pack("<HHII", 324, 4, 64, at))
    upload = b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4)
    upload += struct.pack("<64I", *offsets, offsets[0]) + jpeg * 63
    assert pixels_to_decode(upload, max_pixels=LIMIT) == 128 * 128


def test_many_scans_in_a_tiff_count_as_work_and_are_refused_as_in_a_jpeg() -> None:
    grey = Image.fromarray(noise(HEIGHT, WIDTH))
    jpeg = encoded(grey, "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]

    def tiff(more: int) -> bytes:
        stream = jpeg[:-2] + last_scan * more + jpeg[-2:]
        tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 7, 262: 1, 273: 122, 277: 1, 278: HEIGHT, 279: len(stream)}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + stream

    assert decode(tiff(0), max_pixels=LIMIT).pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels_to_decode(tiff(36), max_pixels=LIMIT) == 4 * PIXELS
    with pytest.raises(ImageTooLarge, match="times"):
        decode(tiff(100), max_pixels=PIXELS)


def test_kinds_that_are_read_slowly_count_more() -> None:
    text = b"P2 %d %d 9\n" % (WIDTH, HEIGHT) + b"1 " * PIXELS
    run_lengths = bytearray(encoded(Image.fromarray(noise(HEIGHT, WIDTH)), "BMP"))
    run_lengths[30] = 1
    for upload in (text, bytes(run_lengths)):
        assert pixels_to_decode(upload, max_pixels=LIMIT) >= 4 * PIXELS


def test_a_tiff_counts_its_pieces_however_small_they_are() -> None:
    picture = Image.fromarray(noise(2000, 1))
    pieces = encoded(picture, "TIFF", compression="tiff_lzw", tiffinfo={278: 1})
    assert pixels_to_decode(encoded(picture, "TIFF"), max_pixels=LIMIT) == 2000
    assert pixels_to_decode(pieces, max_pixels=LIMIT) >= 2000 * 200


@pytest.mark.parametrize(
    ("upload", "error", "options"),
    [
        (b"", UnknownImageFormat, {}),
        (encoded(PICTURE, "PNG")[:20], DamagedImage, {}),
        (b"P5 no size", DamagedImage, {}),
        (encoded(PICTURE, "JPEG"), ImageTooLarge, {"max_pixels": PIXELS - 1}),
        (encoded(PICTURE, "PNG"), FrameNeeded, {"frame": 1}),
        (encoded(PICTURE, "TIFF", save_all=True, append_images=[MORE]), FrameNeeded, {}),
    ],
)
def test_what_the_header_betrays_is_refused(upload: bytes, error: type[BadUpload], options: dict[str, Any]) -> None:
    with pytest.raises(error):
        pixels_to_decode(upload, **{"max_pixels": LIMIT, **options})


def test_who_sends_a_kind_that_is_not_read_is_told_what_to_do() -> None:
    grey = encoded(Image.fromarray(noise(HEIGHT, WIDTH)), "TIFF")
    levels = struct.pack("<HHII", 258, 3, 1, 8)
    assert levels in grey
    with pytest.raises(DamagedImage, match="save it as grey or RGB"):
        decode(grey.replace(levels, struct.pack("<HHII", 258, 3, 1, 10)), max_pixels=LIMIT)
    bmp = bytearray(encoded(PICTURE, "BMP"))
    bmp[28] = 7  # bits a pixel
    with pytest.raises(DamagedImage, match="save it as PNG"):
        decode(bytes(bmp), max_pixels=LIMIT)


@pytest.mark.parametrize(("frame", "bits"), [(0xC1, 12), (0xC3, 16), (0xF7, 8)], ids=["12 bits", "16 bits", "JPEG-LS"])
def test_a_jpeg_of_a_kind_that_is_not_read_is_told_from_a_broken_one(frame: int, bits: int) -> None:
    upload = encoded(PICTURE, "JPEG")
    at = upload.index(b"\xff\xc0")
    other = upload[: at + 1] + bytes([frame]) + upload[at + 2 : at + 4] + bytes([bits]) + upload[at + 5 :]
    with pytest.raises(DamagedImage, match="12 or 16 bits or JPEG-LS; save it as JPEG"):
        decode(other, max_pixels=LIMIT)


def test_a_tiff_that_holds_webp_says_so() -> None:
    deflated, webp = (struct.pack("<HHII", 259, 3, 1, kind) for kind in (8, 50_001))
    upload = encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate")
    assert deflated in upload
    with pytest.raises(DamagedImage, match="WebP"):
        decode(upload.replace(deflated, webp), max_pixels=LIMIT)


def test_a_plain_tiff_with_fewer_samples_of_colour_says_so() -> None:
    tiff = partial(encoded, PICTURE.convert("YCbCr"), "TIFF")
    assert decode(tiff(tiffinfo={530: (1, 1)}), max_pixels=LIMIT).pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DamagedImage, match="save it as RGB"):
        decode(tiff(tiffinfo={530: (2, 1)}), max_pixels=LIMIT)


def test_who_sends_dicom_is_told_what_to_do() -> None:
    with pytest.raises(UnknownImageFormat, match="export the DICOM as PNG or TIFF"):
        decode(bytes(128) + b"DICM", max_pixels=LIMIT)


def test_a_netpbm_picture_beyond_the_limit_is_told_apart_from_one_within() -> None:
    upload = encoded(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)), "PPM")
    with pytest.raises(ImageTooLarge):
        pixels_to_decode(upload, max_pixels=PIXELS - 1)

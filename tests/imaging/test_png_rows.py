"""A PNG whose stream of pixels ends too early is damaged, also where it ends between two rows and all checksums fit."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage
from service.imaging import png_rows
from service.imaging.decode import decode
from tests.imaging.pictures import encoded, noise

LIMIT = 1_000_000


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows: bytes, size: tuple[int, int], *kind: int, cut: int = 0) -> bytes:
    """Return a PNG of (width, height) and of this depth, colour type, 0, 0 and interlacing, with these rows.

    Their stream ends `cut` bytes too early.
    """
    header = chunk(b"IHDR", struct.pack(">II5B", *size, *kind))
    deflated = zlib.compress(rows)[: -cut or None]
    pixels = chunk(b"IDAT", deflated[:7]) + chunk(b"IDAT", deflated[7:])
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ((1, 0, 0, 0, 0), [1 + 2] * 6),
        ((4, 3, 0, 0, 0), [1 + 5] * 6),
        ((8, 0, 0, 0, 0), [1 + 9] * 6),
        ((8, 4, 0, 0, 0), [1 + 18] * 6),
        ((8, 6, 0, 0, 0), [1 + 36] * 6),
        ((16, 2, 0, 0, 0), [1 + 54] * 6),
        ((8, 0, 0, 0, 1), [1 + 2, 1 + 1, *[1 + 3] * 1, *[1 + 2] * 2, *[1 + 5] * 2, *[1 + 4] * 3, *[1 + 9] * 3]),
        ((1, 0, 0, 0, 1), [1 + 1, 1 + 1, *[1 + 1] * 1, *[1 + 1] * 2, *[1 + 1] * 2, *[1 + 1] * 3, *[1 + 2] * 3]),
    ],
    ids=["bits", "palette", "grey", "grey and alpha", "rgba", "deep", "interlaced", "interlaced bits"],
)
def test_each_row_must_be_there(kind: tuple[int, ...], rows: list[int]) -> None:
    """The rows are black, so that what Pillow leaves out looks the same."""
    whole = bytes(sum(rows))

    def written(data: bytes) -> bytes:
        upload = png(data, (9, 6), *kind)
        return upload[:33] + chunk(b"PLTE", b"\1\2\3") + upload[33:] if kind[1] == 3 else upload

    assert decode(written(whole), max_pixels=LIMIT).pixels.shape == (6, 9, 3)
    assert decode(written(whole + whole), max_pixels=LIMIT).pixels.shape == (6, 9, 3)
    for missing in range(1, len(rows)):
        with pytest.raises(DamagedImage):
            decode(written(bytes(sum(rows[:-missing]))), max_pixels=LIMIT)


def test_a_header_that_tells_of_more_rows_than_there_are_is_damage() -> None:
    rows = np.pad(noise(20, 30), ((0, 0), (1, 0))).tobytes()
    np.testing.assert_array_equal(
        decode(png(rows, (30, 20), 8, 0, 0, 0, 0), max_pixels=LIMIT).pixels[..., 0], noise(20, 30)
    )
    with pytest.raises(DamagedImage, match="before its last row"):
        decode(png(rows, (30, 300), 8, 0, 0, 0, 0), max_pixels=LIMIT)


@pytest.mark.parametrize(("cut", "readable"), [(0, 0), (1, 1), (2, 2), (3, 3)])
def test_rows_of_a_frame_count_up_to_the_one_that_is_picked(cut: int, readable: int) -> None:
    frames = [Image.fromarray(noise(16, 16, seed=seed)) for seed in range(3)]
    upload = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    upload = without_half_its_rows(upload, cut) if cut < len(frames) else upload
    for frame in range(readable):
        np.testing.assert_array_equal(
            decode(upload, max_pixels=LIMIT, frame=frame).pixels[..., 0], np.asarray(frames[frame])
        )
    for frame in range(readable, len(frames)):
        with pytest.raises(DamagedImage, match="before its last row"):
            decode(upload, max_pixels=LIMIT, frame=frame)


def without_half_its_rows(upload: bytes, frame: int) -> bytes:
    """Return an animated PNG of which one frame's chunk of pixels, of 16 × 16, ends after 8 rows."""
    name, skipped = (b"fdAT", 4) if frame else (b"IDAT", 0)
    at = -1
    for _ in range(max(1, frame)):
        at = upload.index(name, at + 1)
    end = at + 4 + int.from_bytes(upload[at - 4 : at])
    rows = zlib.decompress(upload[at + 4 + skipped : end])[: 8 * 17]
    return upload[: at - 4] + chunk(name, upload[at + 4 : at + 4 + skipped] + zlib.compress(rows)) + upload[end + 4 :]


def test_a_frame_has_as_many_rows_as_it_says_itself() -> None:
    """Pillow writes no more of a frame than differs from the one before."""
    frames = [noise(16, 16) for _ in range(2)]
    frames[1][2:5, 3:9] ^= 128
    first, second = map(Image.fromarray, frames)
    upload = encoded(first, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(upload, max_pixels=LIMIT, frame=1).pixels[..., 0], frames[1])


def test_rows_of_a_bright_interlaced_picture_count_wherever_they_lie() -> None:
    """The last pass has no part of the last row, if their number is odd."""
    bright = bytes([0, *[255] * 9]) * 3
    passes = [1 + 2, 1 + 1, 1 + 3, 1 + 2, 1 + 2, 1 + 5, 1 + 5, *[1 + 4] * 4]
    whole = b"".join(bytes([0, *[255] * (length - 1)]) for length in passes) + bright
    assert decode(png(whole, (9, 7), 8, 0, 0, 0, 1), max_pixels=LIMIT).pixels.all()
    with pytest.raises(DamagedImage, match="before its last row"):
        decode(png(whole[:-10], (9, 7), 8, 0, 0, 0, 1), max_pixels=LIMIT)


def test_passes_without_a_pixel_have_no_rows() -> None:
    rows = bytes(2 * 5)
    assert decode(png(rows, (1, 5), 8, 0, 0, 0, 1), max_pixels=LIMIT).pixels.shape == (5, 1, 3)


def test_a_stream_without_its_own_checksum_is_whole() -> None:
    """What zlib holds back where it is asked for no more at a time counts."""
    upload = png(bytes(2 * 32_771), (32_770, 2), 8, 0, 0, 0, 0, cut=4)
    assert decode(upload, max_pixels=LIMIT).pixels.shape == (2, 32_770, 3)


def test_most_pictures_are_inflated_but_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(png_rows, "_pictures")
    decode(encoded(Image.fromarray(noise(16, 16, 3)), "PNG"), max_pixels=LIMIT)


def test_no_more_is_inflated_than_the_picture_has() -> None:
    """A stream that goes on is no damage, and whoever sends zeros without end holds nobody up."""
    upload = png(bytes(30_000_000), (10, 10), 8, 0, 0, 0, 0)
    assert not decode(upload, max_pixels=LIMIT).pixels.any()

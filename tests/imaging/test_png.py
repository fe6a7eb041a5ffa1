"""A PNG whose picture is whole is read, whatever became of its texts, profiles and times."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage
from service.imaging.decode import decode
from service.imaging.png import essential
from tests.imaging.pictures import encoded, noise, rgb_png

LIMIT = 1_000_000
HEADER_BYTES = 33
UPLOAD = rgb_png()
PIXELS = decode(UPLOAD, max_pixels=LIMIT).pixels


def chunk(name: bytes, data: bytes, *, flipped: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ flipped)


def with_chunk(added: bytes, at: int = HEADER_BYTES, upload: bytes = UPLOAD) -> bytes:
    return upload[:at] + added + upload[at:]


LONG = np.random.default_rng(0).integers(0, 4, 1_200_000, np.uint8).tobytes()


@pytest.mark.parametrize("at", [HEADER_BYTES, -12], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize(
    "added",
    [
        chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iCCP", b"lut\0\0" + zlib.compress(LONG)),
        chunk(b"tEXt", b"a\0b", flipped=1),
        chunk(b"abCd", b"a\0b", flipped=1),
        chunk(b"eXIf", b"MM\0*", flipped=1),
        *(chunk(name, b"a") for name in (b"pHYs", b"gAMA", b"cHRM")),
        chunk(b"sRGB", b""),
        *(chunk(name, b"a\0\7garbage") for name in (b"zTXt", b"iCCP")),
        chunk(b"zTXt", b"a\0\0garbage"),
    ],
    ids=lambda added: f"{added[4:8].decode()} {len(added)}",
)
def test_what_is_wrong_with_chunks_that_the_picture_does_not_need_does_not_matter(added: bytes, at: int) -> None:
    np.testing.assert_array_equal(decode(with_chunk(added, at), max_pixels=LIMIT).pixels, PIXELS)


@pytest.mark.parametrize(
    "added",
    [chunk(b"tRNS", b"a"), chunk(b"tRNS", bytes(6), flipped=1), chunk(b"a\0Cd", b"a")],
    ids=["short key", "broken key", "no name"],
)
def test_what_is_wrong_with_any_other_is_damage(added: bytes) -> None:
    with pytest.raises(DamagedImage):
        decode(with_chunk(added), max_pixels=LIMIT)


def test_a_broken_chunk_of_the_pixels_is_damage() -> None:
    at = UPLOAD.index(b"IDAT") + 20
    with pytest.raises(DamagedImage):
        decode(UPLOAD[:at] + bytes([UPLOAD[at] ^ 1]) + UPLOAD[at + 1 :], max_pixels=LIMIT)


def test_damage_that_still_inflates_is_damage() -> None:
    """Pillow looks at no checksum of the pixels', and at the stream's own only if it ends where it should."""
    stored = encoded(Image.fromarray(noise(32, 32)), "PNG", compress_level=0)
    at = stored.index(b"IDAT") + 100
    damaged = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
    with pytest.raises(DamagedImage, match="checksum of its pixels"):
        decode(damaged, max_pixels=LIMIT)


def test_damage_in_a_later_frame_that_still_inflates_is_damage() -> None:
    frames = [Image.fromarray(noise(32, 32, seed=seed)) for seed in range(2)]
    stored = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], compress_level=0)
    at = stored.index(b"fdAT") + 100
    with pytest.raises(DamagedImage, match="checksum of its pixels"):
        decode(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :], max_pixels=LIMIT, frame=1)


@pytest.mark.parametrize("at", [HEADER_BYTES, -12], ids=["before the pixels", "behind them"])
def test_a_second_header_is_damage(at: int) -> None:
    """Pillow decodes by the last one's size."""
    with pytest.raises(DamagedImage, match="its one header"):
        decode(with_chunk(chunk(b"IHDR", struct.pack(">II5B", 31, 12, 8, 2, 0, 0, 0)), at), max_pixels=LIMIT)


def test_two_profiles_and_a_bomb_behind_a_text_are_what_nobody_sends_in_good_faith() -> None:
    profile, text = (chunk(name, b"a\0\0" + zlib.compress(b"small")) for name in (b"iCCP", b"zTXt"))
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000)))
    with pytest.raises(DamagedImage, match="more than one colour profile"):
        essential(with_chunk(profile + profile))
    with pytest.raises(DamagedImage, match="inflates without measure"):
        essential(with_chunk(text + bomb))


def test_more_chunks_than_any_encoder_writes_are_refused() -> None:
    with pytest.raises(DamagedImage, match=r"more than 101\d\d chunks"):
        essential(with_chunk(chunk(b"abCd", b"") * 12_000))
    assert essential(with_chunk(chunk(b"abCd", b"") * 9_000)) == UPLOAD


def test_an_orientation_of_millions_of_values_is_passed_over() -> None:
    """Each would become a Python object; in an Exif block of that size nobody keeps an orientation."""
    values = struct.pack(">II", 6, 1) * 4_000_000
    exif = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0x0112, 5, 4_000_000, 26) + bytes(4) + values
    assert essential(with_chunk(chunk(b"eXIf", exif))) == UPLOAD


def test_a_png_of_nothing_else_is_not_copied() -> None:
    assert essential(UPLOAD) is UPLOAD
    assert essential(with_chunk(chunk(b"tEXt", b"a\0b"), -12)) == UPLOAD


def test_orientation_transparency_and_frames_are_kept_beside_a_broken_text() -> None:
    exif, broken = Image.Exif(), chunk(b"tEXt", b"a\0b", flipped=1)
    exif[0x0112] = 6
    frames = [Image.fromarray(noise(24, 31, 4, seed=seed)) for seed in range(2)]
    upload = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], exif=exif)
    for frame in range(2):
        read = decode(with_chunk(broken, upload=upload), max_pixels=LIMIT, frame=frame).pixels
        assert read.shape == (31, 24, 3)
        np.testing.assert_array_equal(read, decode(upload, max_pixels=LIMIT, frame=frame).pixels)
    keyed = encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7))
    assert b"tRNS" in essential(with_chunk(broken, upload=keyed))

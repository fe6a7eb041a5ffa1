"""A compressed TIFF in YCbCr is read as it is stored, or refused: libtiff goes on where it is damaged."""

import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import DamagedImage
from service.imaging.decode import decode
from service.imaging.opening import pixels_to_decode
from tests.imaging.pictures import encoded, noise
from tests.imaging.test_deep_tiff import Tags, built

LIMIT = 1_000_000
WIDTH, HEIGHT, SIDE = 40, 27, 16
SHARING = pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)])
TILED = pytest.mark.parametrize("is_tiled", [False, True], ids=["strips", "tiles"])

Pixels = NDArray[np.uint8]


def picture(across: int, down: int, width: int = WIDTH) -> Pixels:
    """Return light and two colours, uint8 (HEIGHT, width, 3), none of which is a level beyond 0 to 255 in RGB."""
    light, blue, red = np.moveaxis(noise(HEIGHT, width, 3) // 5 + 100, 2, 0)
    return np.stack([light, *(_shared(colour, across, down) for colour in (blue, red))], axis=2)


def _shared(colour: Pixels, across: int, down: int) -> Pixels:
    blocks: Pixels = np.kron(colour[::down, ::across], np.ones((down, across), np.uint8))
    return blocks[: colour.shape[0], : colour.shape[1]]


def in_rgb(stored: Pixels) -> Pixels:
    light, blue, red = np.moveaxis(stored.astype(float) - [0, 128, 128], 2, 0)
    colours = (light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue)
    rounded: Pixels = np.rint(np.stack(colours, axis=2)).astype(np.uint8)
    return rounded


def ycbcr(stored: Pixels, across: int, down: int, *, is_tiled: bool = False, rows: int = SIDE, cut: int = 0) -> bytes:
    """Return a deflated TIFF, of whose second strip or tile the last `cut` bytes are missing."""
    height, width = stored.shape[:2]
    side = SIDE if is_tiled else width
    grid = [(y, x) for y in range(0, height, rows) for x in range(0, width, side)]
    pieces = [stored[y : y + rows, x : x + side] for y, x in grid]
    whole = (rows, side) if is_tiled else (0, 0)
    deflated = [zlib.compress(_blocks(piece, across, down, whole).tobytes()) for piece in pieces]
    deflated[1] = deflated[1][: len(deflated[1]) - cut]
    lengths = [len(piece) for piece in deflated]
    offsets = [8 + sum(lengths[:number]) for number in range(len(lengths))]
    told: Tags = {256: width, 257: height, 258: [8] * 3, 259: 8, 262: 6, 277: 3, 530: [across, down]}
    told |= {322: side, 323: rows, 324: offsets, 325: lengths} if is_tiled else {273: offsets, 278: rows, 279: lengths}
    return built(b"".join(deflated), told)


def _blocks(piece: Pixels, across: int, down: int, least: tuple[int, int]) -> Pixels:
    """Return samples as they are stored: the light of all pixels that share their colour, and the colour."""
    height, width = (max(size, minimum) for size, minimum in zip(piece.shape, least, strict=False))
    rows, columns = -(-height // down), -(-width // across)
    beyond = ((0, rows * down - piece.shape[0]), (0, columns * across - piece.shape[1]), (0, 0))
    full = np.pad(piece, beyond, mode="edge")
    light = full[..., 0].reshape(rows, down, columns, across).swapaxes(1, 2).reshape(rows, columns, -1)
    return np.concatenate([light, full[::down, ::across, 1:]], axis=2)


@SHARING
@TILED
def test_colours_are_those_that_are_stored(across: int, down: int, is_tiled: bool) -> None:
    stored = picture(across, down)
    read = decode(ycbcr(stored, across, down, is_tiled=is_tiled), max_pixels=LIMIT).pixels
    np.testing.assert_allclose(read.astype(int), in_rgb(stored), atol=1)


@SHARING
@TILED
def test_a_strip_or_tile_that_cannot_be_decompressed_is_damage(across: int, down: int, is_tiled: bool) -> None:
    with pytest.raises(DamagedImage):
        decode(ycbcr(picture(across, down), across, down, is_tiled=is_tiled, cut=60), max_pixels=LIMIT)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("big_tiff", [False, True], ids=["classic", "BigTIFF"])
def test_a_file_that_is_cut_short_is_damage_however_it_is_compressed(compression: str, big_tiff: bool) -> None:
    colour = Image.fromarray(noise(HEIGHT, WIDTH, 3)).convert("YCbCr")
    upload = encoded(colour, "TIFF", compression=compression, big_tiff=big_tiff)
    sound = decode(upload, max_pixels=LIMIT).pixels
    np.testing.assert_allclose(sound.astype(int), np.asarray(colour.convert("RGB")), atol=1)
    with pytest.raises(DamagedImage):
        decode(upload[: len(upload) * 2 // 3], max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("across", "down", "rows", "width"),
    [(4, 4, SIDE, WIDTH - 4), (2, 2, 15, WIDTH), (2, 4, SIDE, WIDTH), (0, 0, SIDE, WIDTH)],
    ids=["an odd number of 4 × 4", "across strips", "unknown", "none"],
)
def test_colours_that_would_be_read_from_wrong_places_are_refused_from_the_header(
    across: int, down: int, rows: int, width: int
) -> None:
    upload = ycbcr(picture(1, 1, width), max(1, across), max(1, down), rows=rows)
    upload = upload.replace(_told(max(1, across), max(1, down)), _told(across, down))
    for refuse in (decode, pixels_to_decode):
        with pytest.raises(DamagedImage, match="save it as RGB"):
            refuse(upload, max_pixels=LIMIT)


def _told(across: int, down: int) -> bytes:
    return across.to_bytes(4, "little") + down.to_bytes(4, "little")


def test_an_uncompressed_picture_that_does_not_say_how_colours_are_shared_has_the_standards_four_for_one() -> None:
    told: Tags = {256: 4, 257: 2, 258: [8] * 3, 259: 1, 262: 6, 273: 8, 277: 3, 278: 2, 279: 12}
    with pytest.raises(DamagedImage, match="save it as RGB"):
        decode(built(bytes(24), told), max_pixels=LIMIT)
    assert decode(built(bytes(24), told | {279: 24, 530: [1, 1]}), max_pixels=LIMIT).pixels.shape == (2, 4, 3)

"""A JPEG, or a TIFF of them, is read whole or refused: libjpeg fills up one that breaks off in a TIFF, or in zeros."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.errors import DamagedImage
from service.imaging.decode import decode
from tests.imaging.pictures import encoded, noise
from tests.imaging.test_deep_tiff import LONG, Tags, built

LIMIT = 1_000_000
UNDEFINED = 7
WIDTH, HEIGHT, SIDE = 48, 32, 16
PICTURE = noise(HEIGHT, WIDTH)
TILED = pytest.mark.parametrize("is_tiled", [False, True], ids=["strips", "tiles"])


def jpegs(
    *,
    is_tiled: bool = False,
    cut: float = 0,
    piece: int = 0,
    shares: bool = False,
    less: tuple[int, int] = (0, 0),
    before: bytes = b"",
) -> bytes:
    """Return a grey TIFF of JPEGs, of one of which that part is `cut` off its end; or the first of which `shares`.

    That one has so many rows and columns `less`, and `before` behind the marker of its start.
    """
    side = SIDE if is_tiled else WIDTH
    corners = [(y, x) for y in range(0, HEIGHT, SIDE) for x in range(0, WIDTH, side)]
    pieces = [encoded(Image.fromarray(PICTURE[y : y + SIDE, x : x + side]), "JPEG") for y, x in corners]
    y, x = corners[piece]
    pieces[piece] = encoded(Image.fromarray(PICTURE[y : y + SIDE - less[0], x : x + side - less[1]]), "JPEG")
    pieces[piece] = pieces[piece][:2] + before + pieces[piece][2:]
    pieces[piece] = pieces[piece][: round(len(pieces[piece]) * (1 - cut))]
    lengths = [len(each) for each in pieces]
    offsets = [8 + sum(lengths[:number]) for number in range(len(lengths))]
    if shares:
        offsets, lengths = offsets[:1] * len(offsets), lengths[:1] * len(lengths)
    told: Tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 7, 262: 1, 277: 1}
    told |= {322: side, 323: SIDE, 324: offsets, 325: lengths} if is_tiled else {273: offsets, 278: SIDE, 279: lengths}
    return built(b"".join(pieces), told)


@TILED
def test_whole_jpegs_are_read(*, is_tiled: bool) -> None:
    read = decode(jpegs(is_tiled=is_tiled), max_pixels=LIMIT).pixels
    assert np.abs(read[..., 0].astype(int) - PICTURE).mean() < 12  # what JPEG costs noise


def test_tiles_may_share_a_jpeg() -> None:
    read = decode(jpegs(is_tiled=True, shares=True), max_pixels=LIMIT).pixels
    np.testing.assert_array_equal(read[:SIDE, :SIDE], read[SIDE:, -SIDE:])


@TILED
@pytest.mark.parametrize("piece", [0, 1, -1])
@pytest.mark.parametrize("cut", [0.1, 0.3])
def test_a_jpeg_that_breaks_off_is_refused_whatever_lies_behind_it(*, is_tiled: bool, piece: int, cut: float) -> None:
    with pytest.raises(DamagedImage, match="breaks off"):
        decode(jpegs(is_tiled=is_tiled, cut=cut, piece=piece), max_pixels=LIMIT)


@TILED
@pytest.mark.parametrize(("rows", "columns"), [(8, 0), (0, 8)], ids=["lower", "narrower"])
@pytest.mark.parametrize("piece", [0, 1, -1])
def test_a_jpeg_smaller_than_its_part_of_the_picture_is_refused(
    *, is_tiled: bool, rows: int, columns: int, piece: int
) -> None:
    with pytest.raises(DamagedImage, match="smaller than its part"):
        decode(jpegs(is_tiled=is_tiled, piece=piece, less=(rows, columns)), max_pixels=LIMIT)


def test_a_size_behind_thousands_of_markers_is_not_looked_for() -> None:
    """Each costs Python's time, and an upload has room for millions of them."""
    upload = jpegs(less=(8, 0), before=b"\xff" * 10_000)
    assert decode(upload, max_pixels=LIMIT).pixels.shape == (HEIGHT, WIDTH, 3)


def test_the_last_strip_has_no_more_rows_than_are_left(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(noise(21, 48, 3)).save(file, compression="jpeg", tiffinfo={278: 16})
    with Image.open(file) as picture:
        assert picture.tag_v2[278] == 16  # type: ignore[attr-defined]
    assert decode(file.read_bytes(), max_pixels=LIMIT).pixels.shape == (21, 48, 3)


def test_a_tile_at_the_edge_may_end_with_the_picture() -> None:
    """Some writers do so, and nothing is missing."""
    upload = jpegs(is_tiled=True, piece=-1, less=(4, 8))
    for tag, told in ((256, WIDTH), (257, HEIGHT)):
        was, now = (struct.pack("<HHII", tag, LONG, 1, size) for size in (told, told - (8 if tag == 256 else 4)))
        assert upload.count(was) == 1
        upload = upload.replace(was, now)
    read = decode(upload, max_pixels=LIMIT).pixels[..., 0]
    assert np.abs(read.astype(int) - PICTURE[:-4, :-8]).mean() < 12


def with_tables(tables: bytes) -> bytes:
    """Return a grey TIFF of one JPEG whose tables lie apart."""
    jpeg = encoded(Image.fromarray(PICTURE), "JPEG")
    told: Tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 7, 262: 1, 277: 1, 273: 8, 278: HEIGHT, 279: len(jpeg)}
    upload = built(jpeg, told | {347: [0] * (len(tables) // 4)})
    apart = struct.pack("<HHI", 347, LONG, len(tables) // 4)
    assert upload.count(apart) == 1
    upload = upload.replace(apart, struct.pack("<HHI", 347, UNDEFINED, len(tables)))
    return upload[: -len(tables)] + tables


def test_tables_that_break_off_are_refused() -> None:
    jpeg = encoded(Image.fromarray(PICTURE), "JPEG")
    at = jpeg.index(b"\xff\xdb")
    quantisation = jpeg[at : at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])]
    tables = b"\xff\xd8" + quantisation + b"\xff\xd9"
    padded = tables + bytes(-len(tables) % 4)
    assert decode(with_tables(padded), max_pixels=LIMIT).pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DamagedImage, match="tables break off"):
        decode(with_tables(padded[:40] + bytes(len(padded) - 40)), max_pixels=LIMIT)


@pytest.mark.parametrize("zeros", [20, 2000, 10_000])
def test_a_jpeg_that_ends_in_zeros_instead_of_its_marker_is_refused(zeros: int) -> None:
    """They are pixels, and of a picture with much detail they fill up the rest."""
    whole = encoded(Image.fromarray(noise(160, 160, 3)), "JPEG", quality=100, subsampling=0)
    assert decode(whole + bytes(zeros), max_pixels=LIMIT).pixels.shape == (160, 160, 3)
    with pytest.raises(DamagedImage):
        decode(whole[:-zeros] + bytes(zeros), max_pixels=LIMIT)

"""What is left of an image within a frame of one colour, and when there is no frame."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from service.imaging.dim import AS_THEY_ARE
from service.imaging.frame import inside_frame
from service.imaging.margins import SMALLEST_SHARE, Box
from service.imaging.placement import Image, glimpse, place, prepare, restore, unframed
from service.imaging.policy import InputPolicy, Margins
from tests.imaging.pictures import noise

COLOURS = [(0, 0, 0), (255, 255, 255), (126, 126, 126), (230, 200, 20)]
FIT = InputPolicy(kind="fit", height=256, width=256, margins="plain")
TILE = InputPolicy(kind="tile", height=128, width=128, overlap=16, margins="plain")


def _framed(picture: Image, pads: tuple[tuple[int, int], tuple[int, int]], colour: tuple[int, int, int]) -> Image:
    """Return the picture with so many rows above and below, and columns left and right, of one colour."""
    (top, bottom), (left, right) = pads
    height, width = picture.shape[:2]
    framed = np.full((top + height + bottom, left + width + right, 3), colour, np.uint8)
    framed[top : top + height, left : left + width] = picture
    return framed


def _whole(image: Image) -> Box:
    return 0, 0, image.shape[0], image.shape[1]


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize(
    "pads", [((3, 0), (0, 0)), ((0, 0), (40, 0)), ((40, 60), (0, 0)), ((31, 7), (0, 50)), ((90, 90), (120, 120))]
)
def test_a_frame_goes_to_the_pixel(colour: tuple[int, int, int], pads: tuple[tuple[int, int], tuple[int, int]]) -> None:
    picture = noise(90, 120, 3)
    assert inside_frame(_framed(picture, pads, colour)) == (pads[0][0], pads[1][0], 90, 120)


def test_a_large_image_loses_its_frame_to_the_pixel_as_well() -> None:
    image = _framed(noise(900, 1100, 3), ((301, 33), (17, 777)), (9, 9, 9))
    assert inside_frame(image) == (301, 17, 900, 1100)


def test_bars_of_two_colours_go_whichever_lies_around_the_other() -> None:
    picture = noise(90, 120, 3)
    bars = _framed(picture, ((20, 30), (0, 0)), (0, 0, 0))
    assert inside_frame(_framed(bars, ((0, 0), (25, 35)), (255, 255, 255))) == (20, 25, 90, 120)
    assert inside_frame(_framed(bars, ((9, 8), (25, 35)), (255, 255, 255))) == (29, 25, 90, 120)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_picture_may_differ_from_its_frame_in_one_channel_alone(channel: int) -> None:
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[..., channel] = noise(90, 120)
    assert inside_frame(_framed(picture, ((20, 30), (25, 35)), (0, 0, 0))) == (20, 25, 90, 120)


@pytest.mark.parametrize(("count", "is_picture"), [(20, False), (100, True)])
def test_frames_within_each_other_go_but_stripes_are_the_picture(count: int, is_picture: bool) -> None:
    """One after the other they would take minutes: a picture one pixel high has nothing but plain columns."""
    image = noise(90, 1000, 3)
    for nested in range(count):
        image[:, nested] = image[:, -1 - nested] = nested * 16 % 256
    assert inside_frame(image) == (_whole(image) if is_picture else (0, count, 90, 1000 - 2 * count))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_of_a_frame_that_went_through_jpeg_less_than_two_blocks_stay(quality: int) -> None:
    packed = io.BytesIO()
    framed = _framed(noise(96, 128, 3), ((60, 40), (50, 70)), (12, 12, 12))
    PillowImage.fromarray(framed).save(packed, "JPEG", quality=quality)
    y, x, height, width = inside_frame(np.asarray(PillowImage.open(packed)))
    assert (44 < y <= 60, 34 < x <= 50) == (True, True)
    assert (156 <= y + height < 172, 178 <= x + width < 194) == (True, True)


def test_specks_in_the_frame_are_not_the_picture() -> None:
    framed = _framed(noise(200, 300, 3), ((60, 40), (50, 70)), (255, 255, 255))
    framed[0, 30] = framed[20, 30] = framed[-9, 200] = 0
    assert inside_frame(framed) == (60, 50, 200, 300)


@pytest.mark.parametrize(("specks", "top"), [(3, 40), (6, 10)], ids=["1.5 %", "3 %"])
def test_what_is_more_than_a_fiftieth_of_a_row_is_no_speck(specks: int, top: int) -> None:
    framed = _framed(noise(90, 120, 3), ((40, 40), (40, 40)), (255, 255, 255))
    framed[10, 60 : 60 + specks] = 0
    assert inside_frame(framed) == (top, 40, 130 - top, 120)


@pytest.mark.parametrize(
    "image",
    [
        noise(200, 300, 3),
        np.full((200, 300, 3), 130, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8)[:, None], (200, 300, 3)).copy(),
        _framed(noise(30, 30, 3), ((200, 200), (200, 200)), (0, 0, 0)),
        noise(200, 300, 3) // 21,
    ],
    ids=["noise", "even", "one pixel", "a ramp", "too small", "noise in the dark"],
)
def test_where_there_is_no_frame_all_is_kept(image: Image) -> None:
    assert inside_frame(image) == _whole(image)


@pytest.mark.parametrize(("levels", "goes"), [(4, True), (5, False)])
def test_a_frame_is_of_one_colour(levels: int, goes: bool) -> None:
    framed = _framed(noise(90, 120, 3), ((40, 40), (40, 40)), (0, 0, 0))
    framed[:40, ::2] += np.uint8(levels)
    assert (inside_frame(framed)[0] == 40) is goes


def test_of_a_dim_picture_only_what_is_plain_beside_its_few_levels_is_a_frame() -> None:
    """Its own surround may vary by no more levels than JPEG leaves of a frame in a picture of full range."""
    dim = 8 + noise(64, 64, 3) % 3
    for middle in (30, 20 + noise(48, 48, 3) % 11):  # even, it is all plain to who looks for a frame of full range
        dim[8:56, 8:56] = middle
        assert inside_frame(dim) == _whole(dim)
        for pads in (((5, 5), (7, 7)), ((5, 0), (0, 0)), ((0, 0), (0, 7))):
            assert inside_frame(_framed(dim, pads, (9, 9, 9))) == (pads[0][0], pads[1][0], 64, 64)


def test_the_frame_of_a_dim_picture_may_vary_as_much_as_its_levels_are_fewer() -> None:
    dim = 8 + noise(64, 64, 3) % 60
    framed = _framed(dim, ((20, 20), (30, 30)), (9, 9, 9))
    framed[:20, ::2] += np.uint8(1)
    assert inside_frame(framed) == (20, 30, 64, 64)


@pytest.mark.parametrize("pads", [((30, 40), (50, 20)), ((30, 40), (0, 0)), ((0, 0), (30, 40))], ids=str)
@pytest.mark.parametrize(("gain", "offset", "colour"), [(0.3, 0, 255), (0.15, 0, 126), (0.3, 130, 0)])
def test_a_dim_picture_keeps_its_even_surround_in_a_frame_that_is_not_dim(
    gain: float, offset: int, colour: int, pads: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """White beside it, the picture of a lesion fills the range: its skin was taken for one more frame."""
    y, x = np.ogrid[-100:100, -150:150]
    skin = np.where((y / 50) ** 2 + (x / 75) ** 2 < 1, 90, 200)[..., None] + noise(200, 300, 1) % 28
    dim = np.repeat(np.rint(offset + gain * skin), 3, axis=2).astype(np.uint8)
    assert inside_frame(dim) == _whole(dim)
    assert inside_frame(_framed(dim, pads, (colour,) * 3)) == (pads[0][0], pads[1][0], 200, 300)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    pads=st.tuples(st.tuples(*[st.integers(0, 90)] * 2), st.tuples(*[st.integers(0, 90)] * 2)),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    levels=st.integers(1, 256),
)
def test_the_box_lies_in_the_image_and_is_not_too_small(
    height: int,
    width: int,
    pads: tuple[tuple[int, int], tuple[int, int]],
    colour: tuple[int, int, int],
    levels: int,
) -> None:
    image = _framed((noise(height, width, 3) % np.uint16(levels)).astype(np.uint8), pads, colour)
    y, x, rows, columns = inside_frame(image)
    assert min(rows / image.shape[0], columns / image.shape[1]) >= SMALLEST_SHARE
    assert 0 <= y <= y + rows <= image.shape[0]
    assert 0 <= x <= x + columns <= image.shape[1]


@pytest.mark.parametrize("policy", [FIT, TILE, replace(FIT, margins="trim")], ids=["fit", "tile", "trim"])
def test_a_framed_picture_is_to_the_network_what_it_is_without(policy: InputPolicy) -> None:
    picture = noise(150, 200, 3) // 2 + 100
    framed = _framed(picture, ((60, 44), (70, 30)), (255, 255, 255))
    placement, tiles = prepare(framed, policy)
    for tile, without in zip(tiles, prepare(picture, policy)[1], strict=True):
        np.testing.assert_array_equal(tile, without)
    np.testing.assert_array_equal(unframed(framed, place(framed, policy)), picture)
    answer = restore([np.full(policy.grid, 255, np.uint8) for _ in tiles], placement, policy)
    np.testing.assert_array_equal(answer, np.pad(np.full((150, 200), 255, np.uint8), ((60, 44), (70, 30))))


@pytest.mark.parametrize(
    ("pads", "goes"), [(((2, 2), (0, 1)), False), (((3, 2), (0, 0)), True), (((0, 0), (4, 4)), True)]
)
def test_a_narrow_frame_goes_only_where_nothing_is_resized(
    pads: tuple[tuple[int, int], tuple[int, int]], goes: bool
) -> None:
    framed = _framed(noise(150, 200, 3), pads, (255, 255, 255))
    picture = pads[0][0], pads[1][0], 150, 200
    assert place(framed, TILE).inside == picture
    for policy in (FIT, replace(FIT, margins="trim"), replace(FIT, kind="stretch")):
        assert place(framed, policy).inside == (picture if goes else _whole(framed))


def test_a_policy_that_keeps_margins_keeps_frames() -> None:
    framed = _framed(noise(90, 120, 3), ((40, 40), (40, 40)), (0, 0, 0))
    policy = replace(FIT, margins="keep")
    assert place(framed, policy).inside == _whole(framed)
    assert unframed(framed, place(framed, policy)).shape == framed.shape


def test_dark_margins_within_a_white_frame_are_trimmed_too() -> None:
    camera = np.pad(noise(150, 200, 3) // 2 + 100, ((30, 20), (40, 60), (0, 0))) + noise(200, 300, 3) // 20
    framed = _framed(camera, ((25, 35), (15, 45)), (255, 255, 255))
    placement = place(framed, replace(FIT, margins="trim"))
    assert placement.inside == (55, 55, 150, 200)
    np.testing.assert_array_equal(unframed(framed, placement), camera)
    np.testing.assert_array_equal(glimpse(framed, placement), camera)


NARROW = pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (0, 0)), ((0, 0), (0, 3))], ids=str)


@NARROW
def test_a_line_around_dark_margins_does_not_hide_them(pads: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """It lights up every row and column that ends in it."""
    camera = np.pad(noise(150, 200, 3) // 2 + 100, ((30, 20), (40, 60), (0, 0))) + noise(200, 300, 3) // 20
    policy = replace(FIT, margins="trim")
    placement = place(_framed(camera, pads, (255, 255, 255)), policy)
    assert placement.inside == (pads[0][0] + 30, pads[1][0] + 40, 150, 200)
    assert placement.unframed == (pads[0][0], pads[1][0], 200, 300)


@pytest.mark.parametrize(("frame", "goes"), [(1, False), (3, True)])
def test_a_frame_and_margins_that_are_too_narrow_alone_go_together(frame: int, goes: bool) -> None:
    camera = np.pad(noise(196, 300, 3) // 2 + 100, ((2, 2), (0, 0), (0, 0))) + noise(200, 300, 3) // 20
    policy = replace(FIT, margins="trim")
    framed = _framed(camera, ((frame, 0), (0, 0)), (0, 0, 0))
    assert place(camera, policy).inside == _whole(camera)
    assert place(_framed(camera[2:-2], ((frame, 0), (0, 0)), (0, 0, 0)), policy).inside[0] == 0
    assert place(framed, policy).inside == ((frame + 2, 0, 196, 300) if goes else _whole(framed))


def test_margins_that_are_too_narrow_stay_within_a_frame_that_goes_without_them() -> None:
    camera = np.pad(noise(196, 300, 3) // 2 + 100, ((2, 2), (0, 0), (0, 0))) + noise(200, 300, 3) // 20
    placement = place(_framed(camera, ((20, 0), (0, 0)), (0, 0, 0)), replace(FIT, margins="trim"))
    assert placement.inside == (20, 0, 200, 300)


@NARROW
@pytest.mark.parametrize("margins", ["plain", "trim"])
def test_a_frame_that_is_too_narrow_to_go_says_nothing_of_the_picture_all_the_same(
    margins: Margins, pads: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """Its white hid that the picture is dim."""
    dim, policy = noise(200, 300, 3) // 5 + 20, replace(FIT, margins=margins)
    framed = _framed(dim, pads, (255, 255, 255))
    placement = place(framed, policy)
    assert placement.inside == _whole(framed)
    assert placement.levels == place(dim, policy).levels != AS_THEY_ARE
    np.testing.assert_array_equal(unframed(framed, placement), unframed(dim, place(dim, policy)))

"""Where the picture is within dark margins, and when there are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.imaging.margins import SMALLEST_SHARE, inside_margins
from service.imaging.placement import Image

WHOLE = (0, 0, 600, 800)


def _disc(height: int = 600, width: int = 800, *, radius: int = 200, light: int = 150) -> Image:
    """Return a fundus camera's picture: a bright disc in the middle of a dark image that is not quite black."""
    y, x = np.ogrid[:height, :width]
    disc = (y - height / 2 + 0.5) ** 2 + (x - width / 2 + 0.5) ** 2 < radius**2
    grain = np.random.default_rng(0).integers(0, 15, (height, width, 3), dtype=np.uint8)
    return np.where(disc[..., None], np.uint8(light), 0).astype(np.uint8) + grain


@pytest.mark.parametrize("light", [100, 150, 235])
def test_the_box_holds_the_disc_and_little_else(light: int) -> None:
    found = np.array(inside_margins(_disc(light=light)))
    assert np.abs(found - (100, 200, 400, 400)).max() <= 16


def test_it_scales_with_the_image() -> None:
    small = np.array(inside_margins(_disc(300, 400, radius=100))) / 300
    large = np.array(inside_margins(_disc(2400, 3200, radius=800))) / 2400
    assert np.abs(small - large).max() < 0.03


def test_dust_and_a_line_of_letters_in_the_margins_are_not_the_picture() -> None:
    image = _disc()
    box = inside_margins(image)
    image[20, 30] = image[580, 770] = 255
    image[10:14, 5:15] = 200
    assert inside_margins(image) == box


@pytest.mark.parametrize(
    "image",
    [
        np.full((600, 800, 3), 130, np.uint8),
        np.zeros((600, 800, 3), np.uint8),
        _disc(radius=395),
        _disc(radius=60),
        np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8),
    ],
    ids=["even", "black", "nearly no margins", "a small spot", "noise"],
)
def test_where_there_are_no_margins_to_speak_of_all_is_kept(image: Image) -> None:
    assert inside_margins(image) == WHOLE


def test_margins_on_one_side_alone_are_cut_off() -> None:
    image = np.full((600, 800, 3), 120, np.uint8)
    image[:, :300] = 3
    assert np.abs(np.array(inside_margins(image)) - (0, 300, 600, 500)).max() <= 4


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    light=st.integers(0, 255),
    pads=st.tuples(*[st.integers(0, 300)] * 4),
)
def test_the_box_lies_in_the_image_and_is_not_too_small(
    height: int, width: int, light: int, pads: tuple[int, int, int, int]
) -> None:
    image = np.pad(np.full((height, width, 3), light, np.uint8), (pads[:2], pads[2:], (0, 0)))
    y, x, rows, columns = inside_margins(image)
    assert 0 <= y <= y + rows <= image.shape[0]
    assert 0 <= x <= x + columns <= image.shape[1]
    assert min(rows / image.shape[0], columns / image.shape[1]) >= SMALLEST_SHARE


def _rectangle(height: int, width: int, box: tuple[int, int, int, int], *, light: int = 100, dark: int = 3) -> Image:
    """Return an evenly lit rectangle (y, x, height, width) in an evenly dark image."""
    image = np.full((height, width, 3), dark, np.uint8)
    y, x, rows, columns = box
    image[y : y + rows, x : x + columns] = light
    return image


@pytest.mark.parametrize(
    ("height", "width", "box", "found"),
    [
        (200, 300, (20, 31, 150, 202), (20, 31, 150, 202)),
        (600, 800, (101, 151, 399, 499), (101, 151, 399, 499)),
        (600, 800, (100, 150, 400, 500), (99, 149, 401, 501)),
        (1200, 1600, (203, 301, 800, 1000), (201, 301, 803, 1003)),
    ],
    ids=["every pixel looked at", "every second", "every second, from an even row", "every fourth"],
)
def test_the_box_begins_behind_the_last_dark_row_and_ends_before_the_next_one_that_were_looked_at(
    height: int, width: int, box: tuple[int, int, int, int], found: tuple[int, int, int, int]
) -> None:
    assert inside_margins(_rectangle(height, width, box)) == found


@pytest.mark.parametrize(("bright_rows", "is_trimmed"), [(20, False), (28, True)])
def test_how_dark_is_dark_is_told_by_the_brightest_twentieth(bright_rows: int, is_trimmed: bool) -> None:
    """Margins of 20 beside a picture of 100 are none, unless over 5 % of the image (not 3.75) are far brighter."""
    image = _rectangle(400, 400, (50, 50, 300, 300), dark=20)
    image[200 : 200 + bright_rows] = 255
    image[200 : 200 + bright_rows, :50] = image[200 : 200 + bright_rows, 350:] = 20
    share = bright_rows * 300 / image[..., 0].size
    assert (share > 0.05) is is_trimmed
    assert inside_margins(image) == ((50, 50, 300, 300) if is_trimmed else (0, 0, 400, 400))


@pytest.mark.parametrize("side", [95, 104, 384, 392])
def test_what_is_left_is_neither_too_small_nor_nearly_all(side: int) -> None:
    """A quarter of a side at least, and less than 97 % of one of them."""
    box = 4, 4, side, side
    assert inside_margins(_rectangle(400, 400, box)) == (box if side in {104, 384} else (0, 0, 400, 400))


@pytest.mark.parametrize(("lit", "top"), [(6, 100), (12, 40)], ids=["1.5 %", "3 %"])
def test_a_row_of_which_more_than_a_fiftieth_is_lit_belongs_to_the_picture(lit: int, top: int) -> None:
    image = _rectangle(400, 400, (100, 100, 200, 200))
    image[40:100, 190 : 190 + lit] = 100
    assert inside_margins(image) == (top, 100, 300 - top, 200)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_light_of_one_colour_is_light(channel: int) -> None:
    """Fluorescence fills one channel."""
    image = _rectangle(400, 400, (50, 60, 300, 200))
    image[..., [other for other in range(3) if other != channel]] = 0
    assert inside_margins(image) == (50, 60, 300, 200)

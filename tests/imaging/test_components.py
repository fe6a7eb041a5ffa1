"""Small components: what is left out of a mask, compared with what a flood fill finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.imaging import components
from service.imaging.components import NOTHING, LeftOut, keep_main

Levels = NDArray[np.uint8]


def flood(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Return the pixels of each component, found one after another."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            row, column = front.pop()
            beside = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= beside
            component |= beside
            front += beside
        found.append(component)
    return found


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 99, 100, 255])),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_what_is_kept_is_what_a_flood_fill_finds_large_enough(levels: Levels, least: float) -> None:
    found = flood(levels >= 100)
    largest = max(map(len, found), default=0)
    out = [component for component in found if len(component) < least * largest]
    expected = levels.copy()
    for component in out:
        for pixel in component:
            expected[pixel] = 0
    kept, left_out = keep_main(levels.copy(), 100, least)
    assert np.array_equal(kept, expected)
    assert left_out == LeftOut(len(out), sum(map(len, out)))


def test_one_about_as_large_as_the_largest_stays() -> None:
    levels = np.zeros((9, 9), np.uint8)
    levels[0, :4], levels[4, :2], levels[8, :1] = 200, 200, 200
    kept, left_out = keep_main(levels, 128, 0.5)
    assert left_out == LeftOut(components=1, pixels=1)
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3, 36, 37]


def test_pixels_below_the_mask_stay_as_they_are() -> None:
    levels = np.full((4, 9), 100, np.uint8)
    levels[:, :3], levels[0, 8] = 200, 200
    kept, _ = keep_main(levels, 128, 0.5)
    assert kept[0].tolist() == [200, 200, 200, 100, 100, 100, 100, 100, 0]


@pytest.mark.parametrize("least", [0.0, 0.5])
@pytest.mark.parametrize("level", [0, 255])
def test_a_map_of_one_level_comes_back_itself(level: int, least: float) -> None:
    levels = np.full((5, 7), level, np.uint8)
    kept, left_out = keep_main(levels, 128, least)
    assert kept is levels
    assert left_out == NOTHING


def test_what_is_given_is_not_written_to() -> None:
    levels = np.zeros((6, 6), np.uint8)
    levels[0, :5], levels[5, 5] = 200, 200
    levels.flags.writeable = False
    kept, left_out = keep_main(levels, 128, 0.5)
    assert (kept[5, 5], levels[5, 5], left_out.components) == (0, 200, 1)


def test_more_components_than_two_bytes_can_number() -> None:
    levels = np.zeros((400, 400), np.uint8)
    levels[::2, ::2] = 200
    levels[0, 1] = 200  # joins two
    kept, left_out = keep_main(levels, 128, 1.0)
    assert left_out == LeftOut(components=39_998, pixels=39_998)
    assert np.count_nonzero(kept) == 3


@pytest.mark.parametrize("count", [1, 40])
def test_areas_are_those_of_the_whole_map_however_it_is_counted(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.zeros((64, 64), np.uint8)
    levels[:, :20] = 200  # across every step
    levels[1 : 2 * count : 2, 30] = 200
    once = keep_main(levels, 128, 0.5)
    monkeypatch.setattr(components, "COUNTED_AT_ONCE_PX", 100)
    again = keep_main(levels, 128, 0.5)
    assert np.array_equal(once[0], again[0])
    assert once[1] == again[1] == LeftOut(min(count, 32), min(count, 32))

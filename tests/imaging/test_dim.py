"""Dark pictures, and flat ones where contrast is all, are brought to the full range; others come back as they are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.imaging.dim import AS_THEY_ARE, LEAST_LEVELS, dim_range, filled, in_full_range
from service.imaging.placement import Image, glimpse, place, prepare, unframed
from service.imaging.policy import InputPolicy, Margins
from service.imaging.statistics import features
from tests.imaging.pictures import noise

TILE = InputPolicy(kind="tile", height=128, width=128, overlap=16, levels="stretch")


NEARLY = 5
"""Levels by which a stretched picture may differ from what it was: the specks at either end do not count."""


def _colours(height: int = 200, width: int = 300) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _grey(height: int = 200, width: int = 300) -> Image:
    return np.repeat(_colours(height, width)[..., :1], 3, axis=2)


def _linear(image: Image, offset: float, gain: float) -> Image:
    return np.clip(np.rint(offset + gain * image.astype(np.float64)), 0, 255).astype(np.uint8)


def _largest_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


def _by(image: Image, *, also_flat: bool) -> Image:
    return in_full_range(image, dim_range(image, also_flat=also_flat))


@pytest.mark.parametrize(("offset", "gain"), [(0, 0.48), (0, 0.1), (150, 0.4), (100, 0.2)])
def test_contrast_that_uses_a_part_of_the_levels_is_what_it_was_with_all(offset: float, gain: float) -> None:
    found = _by(_linear(_grey(), offset, gain), also_flat=True)
    assert _largest_difference(found, _grey()) <= 1 / gain + NEARLY


@pytest.mark.parametrize("also_flat", [False, True])
@pytest.mark.parametrize("gain", [0.48, 0.3, 0.1])
def test_a_dark_picture_is_what_it_was_in_more_light(gain: float, also_flat: bool) -> None:
    picture = _colours() // np.array([1, 2, 3], np.uint8)
    found = _by(_linear(picture, 0, gain), also_flat=also_flat)
    assert _largest_difference(found, picture) <= 1 / gain + NEARLY
    assert found[..., 2].max() < found[..., 0].max() / 2  # each channel alike: colours stay what they are


@pytest.mark.parametrize("also_flat", [False, True])
@pytest.mark.parametrize(
    "image",
    [
        _colours(),
        _linear(_colours(), 0, 0.52),
        _linear(_grey(), 100, 0.52),
        np.zeros((200, 300, 3), np.uint8),
        np.full((200, 300, 3), 130, np.uint8),
        _linear(_grey(), 0, (LEAST_LEVELS - 2) / 255),
        np.zeros((1, 1, 3), np.uint8),
    ],
    ids=["full", "half", "half and grey", "black", "even", "hardly a picture", "one pixel"],
)
def test_whatever_else_there_is_comes_back_as_it_is(image: Image, also_flat: bool) -> None:
    assert _by(image, also_flat=also_flat) is image


@pytest.mark.parametrize("low", [0, 60])
@pytest.mark.parametrize(("levels", "is_dim"), [(11, False), (12, True), (127, True), (128, False)])
def test_dim_is_what_fills_a_dozen_levels_and_less_than_half_of_all(levels: int, is_dim: bool, low: int) -> None:
    ramp = np.broadcast_to(np.arange(low, low + levels + 1, dtype=np.uint8)[:, None, None], (levels + 1, 40, 3))
    assert filled(ramp) == (low, low + levels)
    assert dim_range(ramp, also_flat=True) == ((low, low + levels) if is_dim else AS_THEY_ARE)


def test_pale_skin_is_flat_and_not_dark() -> None:
    pale = _linear(_colours(), 130, 0.2)
    assert dim_range(pale, also_flat=False) == AS_THEY_ARE
    assert dim_range(pale, also_flat=True) == (130, 181)


def test_hot_and_dead_pixels_do_not_hide_that_a_picture_is_dim() -> None:
    dim = _linear(_grey(), 60, 0.3)
    speckled = dim.copy()
    speckled[::40, ::40] = 255
    speckled[7::40, ::40] = 0
    assert filled(speckled) == pytest.approx(filled(dim), abs=1)


def test_a_picture_is_judged_as_a_whole_not_tile_by_tile() -> None:
    picture = _grey(400, 400)
    picture[:200] //= 4
    top = prepare(picture, TILE)[1][0]
    np.testing.assert_array_equal(top, picture[:128, :128])


@pytest.mark.parametrize("margins", ["plain", "trim"])
def test_network_and_descriptors_get_the_stretched_picture_without_its_frame(margins: Margins) -> None:
    dim = _linear(_grey(128, 128), 60, 0.3)
    framed = np.pad(dim, ((70, 70), (70, 70), (0, 0)), constant_values=255)
    placement, [tile] = prepare(framed, replace(TILE, margins=margins))
    np.testing.assert_array_equal(tile, _by(dim, also_flat=True))
    np.testing.assert_array_equal(unframed(framed, placement), _by(dim, also_flat=True))


def test_dark_margins_do_not_count_to_what_a_picture_fills() -> None:
    flat = _linear(_grey(128, 128), 100, 0.3)
    camera = np.pad(flat, ((70, 70), (70, 70), (0, 0))) + noise(268, 268, 3) // 28  # uneven, so that it is no frame
    placement = place(camera, replace(TILE, margins="trim"))
    assert placement.inside == (70, 70, 128, 128)
    assert placement.levels == dim_range(camera[70:-70, 70:-70], also_flat=True) != AS_THEY_ARE


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 1100), width=st.integers(1, 1100), framed=st.booleans())
def test_a_glimpse_has_the_descriptors_of_the_whole(height: int, width: int, framed: bool) -> None:
    image = _linear(noise(height, width, 3), 20, 0.3)
    if framed:
        image = np.pad(image, ((height, 0), (0, width), (0, 0)), constant_values=255)
    placement = place(image, replace(TILE, margins="plain"))
    few = glimpse(image, placement)
    assert max(few.shape[:2]) < 512
    np.testing.assert_array_equal(features(few), features(unframed(image, placement)))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_levels_are_stretched_in_every_row(rows: int) -> None:
    image = np.arange(rows * 5 * 3, dtype=np.uint64).reshape(rows, 5, 3).astype(np.uint8)[:, ::2]
    expected = np.rint(np.clip((image.astype(float) - 40) * (255 / 100), 0, 255))
    np.testing.assert_array_equal(in_full_range(image, (40, 140)), expected)


@pytest.mark.parametrize("gain", [0.2, 0.1, 0.05])
def test_a_dim_picture_is_no_frame(gain: float) -> None:
    dim = _linear(_grey(128, 128), 60, gain)
    assert place(dim, replace(TILE, margins="plain")).inside == (0, 0, 128, 128)
    framed = np.pad(dim, ((70, 70), (70, 70), (0, 0)), constant_values=0)
    assert place(framed, replace(TILE, margins="plain")).inside == (70, 70, 128, 128)

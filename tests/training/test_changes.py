"""The changes by which robustness is measured: what each does to an image, and that the mask goes with it."""

import numpy as np
import pytest

from service.imaging.placement import Image, Mask
from service.training.changes import CHANGES, OWN_CHANGES, changes_of
from tests.doubles import draw

ALL = {name: change for modality in OWN_CHANGES for name, change in changes_of(modality).items()}
FRAMING = ("closer", "margins", "half", "twice")


def _square(side: int = 40) -> tuple[Image, Mask]:
    """Return a bright square in the middle of a dark image, and its mask."""
    image, mask = np.full((120, 160, 3), (40, 50, 60), np.uint8), np.zeros((120, 160), np.uint8)
    middle = slice(60 - side // 2, 60 + side // 2), slice(80 - side // 2, 80 + side // 2)
    image[middle], mask[middle] = (180, 190, 200), 1
    return image, mask


def _is_framing(name: str) -> bool:
    return name.startswith(FRAMING)


@pytest.mark.parametrize("name", ALL)
def test_a_change_gives_an_image_and_its_mask_and_leaves_the_original_alone(name: str) -> None:
    image, mask = draw(height=60, width=90), (draw(height=60, width=90)[..., 0] > 128).astype(np.uint8)
    before = image.copy(), mask.copy()
    changed, changed_mask = ALL[name](image, mask)
    assert changed.dtype == np.uint8
    assert changed.shape[2:] == (3,)
    assert changed_mask.shape == changed.shape[:2]
    assert set(np.unique(changed_mask)) <= {0, 1}
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])
    assert np.array_equal(changed, ALL[name](image, mask)[0])


@pytest.mark.parametrize("name", ALL)
def test_of_a_single_pixel_something_remains(name: str) -> None:
    changed, mask = ALL[name](np.full((1, 1, 3), 90, np.uint8), np.ones((1, 1), np.uint8))
    assert changed.shape[:2] == mask.shape
    assert mask.size > 0


@pytest.mark.parametrize("name", [name for name in ALL if not _is_framing(name)])
def test_light_colour_and_sensor_change_the_image_alone(name: str) -> None:
    image, mask = _square()
    changed, changed_mask = ALL[name](image, mask)
    assert changed_mask is mask
    assert np.array_equal(changed, image) == (name == "as it is")


@pytest.mark.parametrize("name", [name for name in ALL if _is_framing(name)])
def test_framing_and_resolution_move_the_mask_with_the_image(name: str) -> None:
    changed, mask = ALL[name](*_square())
    assert changed.shape != (120, 160, 3)
    seen = changed.mean(axis=2) > 120
    assert (seen == (mask > 0)).mean() > 0.99
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize(("name", "share"), [("closer, 2 times", 4.0), ("margins, 0.6 of each side", 0.36)])
def test_what_is_closer_is_larger_and_margins_make_it_smaller(name: str, share: float) -> None:
    image, mask = _square()
    assert ALL[name](image, mask)[1].mean() / mask.mean() == pytest.approx(share, rel=0.03)


@pytest.mark.parametrize(("name", "shape"), [("half the resolution", (60, 80)), ("twice the resolution", (240, 320))])
def test_another_resolution_keeps_the_shape_of_a_picture(name: str, shape: tuple[int, int]) -> None:
    changed, mask = CHANGES[name](*_square())
    assert changed.shape[:2] == mask.shape == shape


def test_shading_grows_from_left_to_right_alike_in_all_rows() -> None:
    image = np.full((30, 50, 3), 100, np.uint8)
    changed, _ = CHANGES["shaded from left to right"](image, image[..., 0])
    assert (changed == changed[0]).all()
    assert (changed[0, 0, 0], changed[0, -1, 0]) == (50, 130)


def test_margins_have_the_colour_of_the_border() -> None:
    changed, _ = CHANGES["margins, 0.8 of each side"](*_square())
    assert changed[0, 0].tolist() == [40, 50, 60]


def test_a_grey_image_has_equal_channels_and_a_cast_shifts_them() -> None:
    image, mask = _square()
    grey = CHANGES["grey"](image, mask)[0]
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()
    assert CHANGES["bluish"](image, mask)[0][60, 80].tolist() == [135, 190, 255]


def test_gamma_below_1_lightens_and_above_1_darkens() -> None:
    image, mask = _square()
    light, dark = (ALL[name](image, mask)[0].mean() for name in ("gamma 0.6", "gamma 1.6"))
    assert light > image.mean() > dark


def test_hairs_are_for_skin_alone_and_hide_some_of_it() -> None:
    assert list(changes_of("retina")) == list(changes_of("of my own")) == list(CHANGES)
    assert list(changes_of("skin")) == [*CHANGES, "under 40 hairs"]
    image, mask = np.full((120, 160, 3), 200, np.uint8), np.zeros((120, 160), np.uint8)
    darker = changes_of("skin")["under 40 hairs"](image, mask)[0].mean(axis=2) < 190
    assert 0.1 < darker.mean() < 0.6

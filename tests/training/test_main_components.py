"""When small components are left out: if validation images clearly gain by it."""

from collections.abc import Sequence

import numpy as np
import pytest

from service.engine.quality import MaskRule
from service.training.main_components import FEWEST_IMAGES, LEAST_COMPONENT, is_clear_gain
from service.training.scores import ImageLevels
from tests.training.levels import levels_of

Pair = tuple[ImageLevels, ImageLevels]
"""An image with all components of its mask, and with the main ones."""


def stained(seed: int, *, is_lesion: bool, spots: int = 3) -> Pair:
    """Return an image with a disc and small spots, which the reference has or not: all of it, and its main part."""
    random = np.random.default_rng(seed)
    probability = np.zeros((64, 64), np.uint8)
    probability[:30, :30] = 200
    reference = probability > 0
    reference[:3, :3] = random.random((3, 3)) < 0.5  # no network is always right
    for spot in range(random.integers(0, spots + 1)):
        rows, columns = slice(40, 44 + random.integers(0, 9)), slice(20 * spot, 20 * spot + 5)
        probability[rows, columns] = 220
        reference[rows, columns] = is_lesion
    main, _ = MaskRule(0.5, LEAST_COMPONENT).kept(probability)
    return levels_of(probability, reference, str(seed)), levels_of(main, reference, str(seed))


def is_gain(pairs: Sequence[Pair]) -> bool:
    return is_clear_gain([before for before, _ in pairs], [after for _, after in pairs], 0.5)


def test_spots_that_no_reference_has_are_left_out() -> None:
    assert is_gain([stained(seed, is_lesion=False) for seed in range(40)])


def test_spots_that_references_have_stay() -> None:
    assert not is_gain([stained(seed, is_lesion=True) for seed in range(40)])
    assert not is_gain([stained(seed, is_lesion=seed % 2 == 0) for seed in range(200)])


def test_few_images_do_not_tell() -> None:
    assert not is_gain([stained(seed, is_lesion=False) for seed in range(FEWEST_IMAGES - 1)])
    assert is_gain([stained(seed, is_lesion=False) for seed in range(FEWEST_IMAGES)])


def test_without_a_difference_nothing_is_gained() -> None:
    assert not is_gain([stained(seed, is_lesion=False, spots=0) for seed in range(40)])


@pytest.mark.parametrize(("gaining", "expected"), [(3, False), (12, True)])
def test_what_a_few_images_gain_may_be_chance(gaining: int, expected: bool) -> None:
    """Three of forty that gain alike lie 1.8 standard errors above none; twelve, four."""
    spotted = next(pair for seed in range(9) if is_another(pair := stained(seed, is_lesion=False)))
    clean = stained(0, is_lesion=False, spots=0)
    assert is_gain([spotted] * gaining + [clean] * (40 - gaining)) is expected


def is_another(pair: Pair) -> bool:
    return pair[0].agreement(0.5) != pair[1].agreement(0.5)

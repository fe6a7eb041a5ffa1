"""The threshold follows the validation images as far as they speak clearly, and no further."""

import numpy as np
import pytest

from service.engine.quality import lowest_level
from service.training.scores import ImageLevels
from service.training.threshold import CANDIDATES, USUAL, choose_threshold, threshold_from
from tests.training.levels import levels_of, shifted


def mean_iou(images: list[ImageLevels], threshold: float) -> float:
    return float(np.mean([image.agreement(threshold).iou for image in images]))


@pytest.mark.parametrize("level", CANDIDATES)
def test_a_threshold_takes_its_level_and_not_the_one_below(level: int) -> None:
    assert lowest_level(threshold_from(level)) == level


def test_the_usual_threshold_is_a_candidate() -> None:
    assert USUAL in CANDIDATES
    assert threshold_from(USUAL) == 0.5
    assert threshold_from(min(CANDIDATES)) == pytest.approx(0.25, abs=0.002)
    assert threshold_from(max(CANDIDATES)) == pytest.approx(0.75, abs=0.002)


@pytest.mark.parametrize(("shift", "least", "most"), [(-1.5, 0.2, 0.35), (1.5, 0.65, 0.8)])
def test_a_bias_that_every_image_shares_moves_the_threshold(shift: float, least: float, most: float) -> None:
    images = [shifted(seed, shift) for seed in range(30)]
    threshold = choose_threshold(images)
    assert least <= threshold <= most
    assert mean_iou(images, threshold) > mean_iou(images, 0.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 30])
def test_where_every_threshold_is_as_good_it_stays_at_a_half(count: int) -> None:
    certain = np.repeat(np.array([0, 255], np.uint8), 50)
    assert choose_threshold([levels_of(certain, certain > 0)] * count) == 0.5


def test_one_image_among_four_does_not_move_it() -> None:
    """Three images are as good at every threshold; the fourth would be far better at a low one."""
    certain = np.repeat(np.array([0, 255], np.uint8), 50)
    faint = np.repeat(np.array([0, 90], np.uint8), 50)
    images = [*[levels_of(certain, certain > 0)] * 3, levels_of(faint, faint > 0)]
    assert mean_iou(images, 0.3) > mean_iou(images, 0.5) + 0.2
    assert choose_threshold(images) == 0.5


@pytest.mark.parametrize(("faint", "moves"), [((0, 10, 10, 20), True), ((0, 1, 19, 20), False)])
def test_a_gain_of_more_than_two_standard_errors_moves_it(faint: tuple[int, ...], moves: bool) -> None:
    """On average a tenth of each mask is faint: 2.4 standard errors, or 1.8 where images differ more."""
    images = []
    for count in faint:
        probability = np.repeat(np.array([0, 90, 255], np.uint8), [100, count, 100 - count])
        images.append(levels_of(probability, probability > 0))
    assert (choose_threshold(images) < 0.5) == moves


def test_the_first_image_counts_no_more_than_any_other() -> None:
    faint = np.repeat(np.array([0, 90], np.uint8), 50)
    stained = np.repeat(np.array([0, 140, 255], np.uint8), [50, 50, 100])
    images = [levels_of(faint, faint > 0), *[levels_of(stained, stained == 255)] * 30]
    assert choose_threshold(images) > 140 / 255


def test_a_lone_image_does_not_move_it() -> None:
    faint = np.repeat(np.array([0, 90], np.uint8), 50)
    assert choose_threshold([levels_of(faint, faint > 0)]) == 0.5


def test_four_images_that_agree_move_it_to_the_nearest_threshold_that_is_as_good() -> None:
    faint = np.repeat(np.array([0, 90], np.uint8), 50)
    threshold = choose_threshold([levels_of(faint, faint > 0)] * 4)
    assert lowest_level(threshold) == max(level for level in CANDIDATES if level <= 90)

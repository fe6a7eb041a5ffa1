"""Scores against formulas written down a second time."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.quality import Agreement, MaskRule, agreement, expected_iou, foreground, level_counts
from service.imaging.policy import InputPolicy
from service.store.card import IouEstimate
from service.training.scores import (
    ImageScore,
    averaged_over_flips,
    calibration_error,
    count_levels,
    expected_iou_error,
    mean_and_std,
    probability_of,
    score,
    scores_of,
)
from tests.training.levels import levels_of

POLICY = InputPolicy(kind="tile", height=32, width=32, overlap=4)


def _red(tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    assert len(tiles) <= 4
    return [tile[..., 0] for tile in tiles]


def test_a_probability_lies_where_its_pixel_lay() -> None:
    image = np.repeat(np.add.outer(np.arange(70), np.arange(90)).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(probability_of(image, _red, POLICY), image[..., 0])


def test_scores_are_those_of_the_papers_equations() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    reference = random.integers(0, 2, (20, 30), dtype=np.uint8)
    (found,) = score([("one", (image, reference))], _red, POLICY, MaskRule(0.5))
    mask, probability = image[..., 0] >= 128, image[..., 0] / 255
    hits, right = (mask & (reference == 1)).sum(), (mask == (reference == 1)).sum()
    wrong, missed = (mask & (reference == 0)).sum(), (~mask & (reference == 1)).sum()
    assert found.name == "one"
    assert found.agreement.iou == pytest.approx(hits / (hits + wrong + missed))
    assert found.agreement.accuracy == pytest.approx(right / 600)
    assert found.agreement.dice == pytest.approx(2 * hits / (2 * hits + wrong + missed))
    expected = probability[mask].sum() / (mask.sum() + probability[~mask].sum())
    assert found.expected_iou == pytest.approx(expected)


def test_the_deviation_is_that_of_the_population() -> None:
    assert mean_and_std([0.2, 0.4, 0.9]) == pytest.approx((0.5, np.sqrt((0.09 + 0.01 + 0.16) / 3)))
    assert mean_and_std([0.7]) == (0.7, 0.0)


@pytest.mark.parametrize("threshold", [0.0, 0.31, 0.5, 1.0])
def test_counted_levels_give_the_scores_of_the_map_itself(threshold: float) -> None:
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    reference = random.integers(0, 2, (20, 30), dtype=np.uint8)
    estimate = IouEstimate(offset=0.5, plain=0.5, decided=0.5)
    (found,) = scores_of(count_levels([("one", (image, reference))], _red, POLICY), threshold, estimate)
    assert found.agreement == agreement(foreground(image[..., 0], threshold), reference > 0)
    assert found.expected_iou == expected_iou(level_counts(image[..., 0]), threshold, estimate)


def test_levels_are_counted_of_what_the_rule_keeps() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[2:12, 2:12], image[15:18, 20:23], image[0, 29] = 200, 220, 90
    reference = np.ones((20, 30), np.uint8)
    (found,) = count_levels([("one", (image, reference))], _red, POLICY, MaskRule(0.5, 0.5))
    assert np.flatnonzero(found.pixels).tolist() == [0, 90, 200]
    assert np.array_equal(found.pixels, found.foreground)
    (every,) = count_levels([("one", (image, reference))], _red, POLICY)
    assert np.flatnonzero(every.pixels).tolist() == [0, 90, 200, 220]


def test_the_error_of_expected_ious_has_no_sign() -> None:
    scores = [ImageScore("one", Agreement(iou, 1.0, 1.0), expected) for iou, expected in ((0.5, 0.7), (0.9, 0.8))]
    assert expected_iou_error(scores) == pytest.approx(0.15)


def test_the_calibration_error_is_that_of_its_definition_pixel_by_pixel() -> None:
    random = np.random.default_rng(3)
    maps = random.integers(0, 256, (3, 40, 50), dtype=np.uint8)
    references = random.random((3, 40, 50)) < (maps / 255) ** 2
    probability, true = maps.ravel() / 255, references.ravel()
    bins = [(probability >= i / 15 - 1e-9) & (probability < (i + 1) / 15 - 1e-9) for i in range(14)]
    bins.append(probability >= 14 / 15 - 1e-9)
    gaps = [chosen.sum() * abs(true[chosen].mean() - probability[chosen].mean()) for chosen in bins]
    images = [levels_of(map_, reference) for map_, reference in zip(maps, references, strict=True)]
    assert calibration_error(images) == pytest.approx(sum(gaps) / true.size)
    assert calibration_error(images) > 0.1


def test_certain_and_right_answers_are_calibrated() -> None:
    certain = np.repeat(np.array([0, 255], np.uint8), 50)
    assert calibration_error([levels_of(certain, certain > 0)]) == 0.0
    assert calibration_error([levels_of(certain, certain == 0)]) == 1.0


def test_the_average_over_flips_sees_each_flip_and_turns_its_answer_back() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    seen: list[NDArray[np.uint8]] = []

    def predict(tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Give each pixel's red, but for the first row, which is always black: what a flip can move."""
        seen.extend(tiles)
        maps = [tile[..., 0].copy() for tile in tiles]
        for found in maps:
            found[0] = 0
        return maps

    (found,) = averaged_over_flips(predict)([tile])
    expected = tile[..., 0].astype(float)
    expected[[0, -1]] /= 2
    assert {view.tobytes() for view in seen} == {np.flip(tile, axes).tobytes() for axes in ((), (0,), (1,), (0, 1))}
    assert np.array_equal(found, np.round(expected))

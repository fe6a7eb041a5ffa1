"""Scores against formulas written down a second time."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.imaging.policy import InputPolicy
from service.training.scores import mean_and_std, probability_of, score

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
    (found,) = score([("one", (image, reference))], _red, POLICY, threshold=0.5)
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

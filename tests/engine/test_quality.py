"""Scores and expectations, against plain sums and against drawn references."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.engine.quality import (
    MaskRule,
    agreement,
    corrected_iou,
    decidedness,
    expected_iou,
    foreground,
    level_counts,
    lowest_level,
    plain_iou,
)
from service.store.card import IouEstimate
from tests.cards import make_card

Mask = NDArray[np.bool_]
Probability = NDArray[np.uint8]

seeds = st.integers(0, 2**32 - 1)
thresholds = st.floats(0, 1)
HARD = IouEstimate(offset=-1.5, plain=0.5, decided=2.0)
SOFT = IouEstimate(offset=4.0, plain=4.0, decided=0.0)
EVERY_LEVEL = np.arange(256, dtype=np.uint8).reshape(16, 16)


def masks(seed: int, share: float, shape: tuple[int, int] = (5, 7)) -> Mask:
    return np.random.default_rng(seed).random(shape) < share


@given(thresholds)
def test_foreground_is_exactly_what_reaches_the_threshold(threshold: float) -> None:
    expected = [level / 255 >= threshold for level in range(256)]
    assert foreground(EVERY_LEVEL, threshold).ravel().tolist() == expected


@pytest.mark.parametrize("level", range(256))
def test_a_threshold_that_a_level_stands_for_includes_that_level(level: int) -> None:
    assert lowest_level(level / 255) == level


def test_threshold_0_takes_every_pixel_and_threshold_1_only_the_certain_ones() -> None:
    assert foreground(EVERY_LEVEL, 0.0).all()
    assert np.flatnonzero(foreground(EVERY_LEVEL, 1.0)).tolist() == [255]


def test_beyond_threshold_1_nothing_is_foreground() -> None:
    assert not foreground(EVERY_LEVEL, np.nextafter(1.0, 2.0)).any()


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_agreement_is_what_counting_pixel_by_pixel_gives(seed: int, share: float, reference_share: float) -> None:
    mask, reference = masks(seed, share), masks(seed + 1, reference_share)
    pairs = list(zip(mask.ravel().tolist(), reference.ravel().tolist(), strict=True))
    tp, fp = pairs.count((True, True)), pairs.count((True, False))
    fn, tn = pairs.count((False, True)), pairs.count((False, False))
    scores = agreement(mask, reference)
    assert scores.accuracy == pytest.approx((tp + tn) / (tp + tn + fp + fn))
    assert scores.iou == pytest.approx(tp / (tp + fp + fn) if tp + fp + fn else 1.0)
    assert scores.dice == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0)


@given(seeds, st.floats(0, 1))
def test_agreement_does_not_depend_on_which_mask_is_the_reference(seed: int, share: float) -> None:
    mask, reference = masks(seed, share), masks(seed + 1, 0.4)
    assert agreement(mask, reference) == agreement(reference, mask)


def test_two_empty_masks_agree_fully() -> None:
    empty = np.zeros((3, 4), np.bool_)
    scores = agreement(empty, empty)
    assert (scores.iou, scores.accuracy, scores.dice) == (1.0, 1.0, 1.0)


def test_one_empty_mask_agrees_with_another_in_its_background_only() -> None:
    mask = np.array([[True, False, False, False]])
    scores = agreement(mask, np.zeros_like(mask))
    assert (scores.iou, scores.accuracy, scores.dice) == (0.0, 0.75, 0.0)


@settings(max_examples=20)
@given(seeds, st.floats(0.15, 3.0), st.floats(0.15, 3.0), st.floats(0.0, 0.85))
def test_expected_iou_is_the_mean_over_references_drawn_from_the_probabilities(
    seed: int, alpha: float, beta: float, threshold: float
) -> None:
    generator = np.random.default_rng(seed)
    probability = np.rint(255 * generator.beta(alpha, beta, (48, 48))).astype(np.uint8)
    mask = foreground(probability, threshold)
    references = generator.random((200, *mask.shape)) < probability / 255
    drawn = [agreement(mask, reference).iou for reference in references]
    assert expected_iou(level_counts(probability), threshold) == pytest.approx(float(np.mean(drawn)), abs=0.02)


@given(seeds, thresholds)
def test_expected_iou_lies_between_0_and_1(seed: int, threshold: float) -> None:
    probability = np.random.default_rng(seed).integers(0, 256, (4, 6), dtype=np.uint8)
    assert 0 <= expected_iou(level_counts(probability), threshold) <= 1


def test_a_certain_answer_is_expected_to_be_right() -> None:
    assert expected_iou(level_counts(np.array([[0, 255, 255]], np.uint8)), 0.5) == 1.0
    assert expected_iou(level_counts(np.zeros((2, 2), np.uint8)), 0.5) == 1.0


@pytest.mark.parametrize("estimate", [None, HARD, SOFT])
def test_a_mask_where_nothing_is_likely_is_expected_to_be_wrong(estimate: IouEstimate | None) -> None:
    assert expected_iou(level_counts(np.zeros((2, 2), np.uint8)), 0.0, estimate) == 0.0


def test_an_empty_mask_of_an_empty_image_is_expected_to_be_right() -> None:
    assert plain_iou(level_counts(np.zeros((2, 2), np.uint8)), 0.5) == 1.0


def test_however_decided_a_map_is_it_outweighs_nothing_else() -> None:
    estimate = IouEstimate(offset=0.0, plain=1.0, decided=1.0)
    found = corrected_iou(np.full(4, 0.5), np.array([0.0, 0.01, 0.99, 1.0]), estimate)
    assert found == pytest.approx([0.01, 0.01, 0.99, 0.99])


def test_a_rule_is_the_cards_but_for_what_is_asked_otherwise() -> None:
    card = make_card(threshold=0.25, least_component=0.125)
    assert MaskRule.of(card) == MaskRule(0.25, 0.125)
    assert MaskRule.of(card, 0.0) == MaskRule(0.0, 0.125)
    assert MaskRule.of(card, all_components=True) == MaskRule(0.25, 0.0)


def test_an_empty_mask_where_something_is_likely_is_expected_to_be_wrong() -> None:
    assert expected_iou(level_counts(np.full((9, 9), 100, np.uint8)), 0.5) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("estimate", [None, HARD, SOFT])
def test_an_empty_mask_is_right_if_nothing_is_there(estimate: IouEstimate | None) -> None:
    """A pixel of the lowest level made it 0, and none 1."""
    few = np.zeros((8, 8), np.uint8)
    few[0, :3] = 1, 1, 51
    expected = (254 / 255) ** 2 * (204 / 255)
    assert expected_iou(level_counts(few), 0.5, estimate) == pytest.approx(expected)


def test_expected_iou_of_a_large_image_loses_no_pixel_to_rounding() -> None:
    probability = np.full((1500, 1500), 204, np.uint8)
    assert expected_iou(level_counts(probability), 0.5) == pytest.approx(0.8, rel=1e-12)


def test_expected_iou_does_not_leave_its_range_or_its_certainty_with_an_estimate() -> None:
    for estimate in (HARD, SOFT):
        assert expected_iou(level_counts(np.array([[0, 255, 255]], np.uint8)), 0.5, estimate) == 1.0
        assert expected_iou(level_counts(np.full((9, 9), 100, np.uint8)), 0.5, estimate) == pytest.approx(0, abs=1e-9)
        assert expected_iou(level_counts(np.full((2, 2), 1, np.uint8)), 0.0, estimate) < 1e-3


@settings(max_examples=30)
@given(seeds, thresholds, st.sampled_from([HARD, SOFT]))
def test_an_estimate_is_the_formula_of_the_card(seed: int, threshold: float, estimate: IouEstimate) -> None:
    probability = np.random.default_rng(seed).integers(0, 256, (4, 6), dtype=np.uint8)
    plain, share = expected_iou(level_counts(probability), threshold), np.mean(probability >= 64)
    decided = min(max(float(np.mean(probability >= 192) / share) if share else 0.0, 0.01), 0.99)
    found = expected_iou(level_counts(probability), threshold, estimate)
    if plain in (0.0, 1.0) or not foreground(probability, threshold).any():
        assert found == plain
    else:
        odds = (plain / (1 - plain)) ** estimate.plain * (decided / (1 - decided)) ** estimate.decided
        assert found == pytest.approx(1 - 1 / (1 + odds * np.exp(estimate.offset)), abs=1e-9)


def test_an_estimate_that_only_takes_the_plain_one_changes_nothing() -> None:
    probability = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    counts, same = level_counts(probability), IouEstimate(offset=0.0, plain=1.0, decided=0.0)
    assert expected_iou(counts, 0.4, same) == pytest.approx(expected_iou(counts, 0.4), rel=1e-12)


def test_a_map_is_decided_as_far_as_it_is_sure_of_what_it_takes_for_likely() -> None:
    levels = np.array([[0, 63, 64, 100, 191, 192, 255, 255]], np.uint8)
    assert decidedness(level_counts(levels)) == pytest.approx(3 / 6)
    assert decidedness(level_counts(np.zeros((3, 3), np.uint8))) == 0.0


@pytest.mark.parametrize("size", [1, 7, 2**16 - 1, 2**16 + 1, 200_003])
def test_every_pixel_is_counted_once_however_many_there_are(size: int) -> None:
    levels = np.random.default_rng(size).integers(0, 256, (1, size), dtype=np.uint8)
    assert level_counts(levels).tolist() == [int((levels == level).sum()) for level in range(256)]


def test_counting_a_large_map_takes_little_memory() -> None:
    large = np.zeros((2048, 2048), np.uint8)
    tracemalloc.start()
    counts = level_counts(large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts[0] == large.size
    assert peak < large.size  # NumPy at once takes eight bytes for each pixel

"""The estimate of IoU learns a fault that validation images share, and from few of them hardly anything."""

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from service.engine.quality import level_counts
from service.store.card import IouEstimate
from service.training.iou_estimate import HIGHEST, LOWEST, Weights, fit_estimate
from service.training.scores import ImageLevels, expected_iou_error, scores_of
from tests.training.levels import levels_of

PLAIN = IouEstimate(offset=0.0, plain=1.0, decided=0.0)


def overconfident(seed: int) -> ImageLevels:
    """Return an image that is sure of a mask, of which a part is wrong: the larger, the less decided the map is."""
    random = np.random.default_rng(seed)
    unsure = random.uniform(0.0, 0.5)
    probability = np.zeros(4000, np.uint8)
    probability[:1000] = np.where(random.random(1000) < unsure, 180, 252)
    reference = np.zeros(4000, np.bool_)
    reference[: int(1000 * (0.9 - unsure + random.normal(0, 0.03)))] = True
    return ImageLevels(f"image {seed}", level_counts(probability), level_counts(probability[reference]))


def error(images: Sequence[ImageLevels], estimate: IouEstimate | None) -> float:
    return expected_iou_error(scores_of(images, 0.5, estimate))


def test_a_fault_that_many_images_share_is_learnt_and_holds_on_others() -> None:
    learnt_on, others = ([overconfident(seed) for seed in seeds] for seeds in (range(200), range(200, 400)))
    estimate = fit_estimate(learnt_on, 0.5)
    assert error(others, None) > 0.1
    assert error(others, estimate) < 0.04
    assert estimate.decided > 0


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_pull_the_estimate_only_a_little(count: int) -> None:
    images = [overconfident(seed) for seed in range(count)]
    few, many = fit_estimate(images, 0.5), fit_estimate([overconfident(seed) for seed in range(200)], 0.5)
    distances = [
        np.linalg.norm(np.subtract(tuple(found.model_dump().values()), tuple(PLAIN.model_dump().values())))
        for found in (few, many)
    ]
    assert distances[0] < distances[1] / 2
    assert error(images, few) < error(images, None)


def test_images_that_the_plain_estimate_gets_right_leave_it_alone() -> None:
    certain = np.repeat(np.array([0, 255], np.uint8), 50)
    images = [ImageLevels("one", level_counts(certain), level_counts(certain[50:]))] * 50
    assert fit_estimate(images, 0.5) == PLAIN


def test_the_mask_whose_iou_is_estimated_begins_at_the_threshold() -> None:
    """At either the plain estimate is right, but not that at one of the IoU at the other."""
    probability = np.repeat(np.array([102, 255], np.uint8), [300, 100])
    images = [levels_of(probability, np.arange(400) >= 180)] * 50
    assert fit_estimate(images, 0.3) == fit_estimate(images, 0.5) == PLAIN


@pytest.mark.parametrize("field", range(3))
@pytest.mark.parametrize(("bound", "beyond"), [(LOWEST, -0.01), (HIGHEST, 0.01)], ids=["lowest", "highest"])
def test_what_is_searched_is_what_a_card_may_hold(field: int, bound: Weights, beyond: float) -> None:
    names, values = ("offset", "plain", "decided"), bound.tolist()
    IouEstimate(**dict(zip(names, values, strict=True)))
    values[field] += beyond
    with pytest.raises(ValidationError, match=names[field]):
        IouEstimate(**dict(zip(names, values, strict=True)))


def test_no_image_is_expected_to_be_better_for_being_less_decided() -> None:
    """Here the less decided maps are the better ones, by chance or not: the weight stays at its bound."""
    images = []
    for seed in range(40):
        probability = np.full(1000, 200 - 3 * seed, np.uint8)
        probability[600:] = 0
        images.append(ImageLevels("one", level_counts(probability), level_counts(probability[: 200 + 10 * seed])))
    estimate = fit_estimate(images, 0.25)
    assert estimate.decided == 0.0
    assert estimate.plain >= 0.0


def test_images_without_any_foreground_have_an_estimate() -> None:
    empty = np.zeros(100, np.uint8)
    assert fit_estimate([ImageLevels("one", level_counts(empty), level_counts(empty[:0]))], 0.5) == PLAIN


def test_the_same_images_give_the_same_estimate_in_any_order() -> None:
    images = [overconfident(seed) for seed in range(20)]
    assert fit_estimate(images, 0.5) == fit_estimate(images[::-1], 0.5)

"""What the card says of the test images, against the same scores taken one by one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.engine.predictor import Predictor
from service.engine.quality import MaskRule
from service.imaging.placement import place
from service.imaging.policy import InputPolicy
from service.imaging.share import UsualShare, share_of
from service.imaging.statistics import Likeness, features
from service.store.card import IouEstimate, Normalisation
from service.training.cache import PairCache
from service.training.calibrate import Calibration
from service.training.dataset import Pair, load, open_dataset
from service.training.measure import measure
from service.training.parts import Parts, Usual, study
from service.training.scores import calibration_error, count_levels, expected_iou_error, mean_and_std, score
from service.training.split import Split
from tests.training.folders import write

PLAIN = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
POLICY = InputPolicy(kind="stretch", height=32, width=32)
CALIBRATION = Calibration(
    temperature=2.0,
    threshold=0.4,
    least_component=0.0,
    expected_iou=IouEstimate(offset=-1, plain=0.5, decided=0.5),
)


class _Dark(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return -4 * image.mean(dim=1, keepdim=True)


def _predictor_at(temperature: float) -> Predictor:
    return Predictor(_Dark(), PLAIN, temperature=temperature, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def parts() -> Parts:
    dataset = open_dataset("drawn:skin:5")
    names = [pair.name for pair in dataset.pairs]

    def cache(pairs: Sequence[Pair]) -> PairCache:
        return PairCache(pairs, 1e9)

    return Parts(
        dataset,
        Split(train=(names[0],), validation=(names[1],), test=tuple(names[2:]), how="by hand"),
        cache(dataset.pairs[:1]),
        cache(dataset.pairs[1:2]),
        cache(dataset.pairs[2:]),
    )


def test_scores_are_those_at_the_calibration(parts: Parts) -> None:
    of_card, scores = measure(parts, _predictor_at, CALIBRATION, study(parts.train, POLICY), POLICY)
    predict = _predictor_at(CALIBRATION.temperature).predict
    assert scores == score(parts.test.named(), predict, POLICY, MaskRule(0.4), CALIBRATION.expected_iou)
    assert [found.name for found in scores] == list(parts.split.test)
    assert (of_card.dataset, of_card.split, of_card.n) == ("drawn:skin", "test part; by hand", 3)
    assert (of_card.iou_mean, of_card.iou_std) == mean_and_std(found.agreement.iou for found in scores)
    accuracy = mean_and_std(found.agreement.accuracy for found in scores)
    assert (of_card.accuracy_mean, of_card.accuracy_std) == accuracy
    assert of_card.dice_mean == mean_and_std(found.agreement.dice for found in scores)[0]
    assert of_card.expected_iou_error == expected_iou_error(scores)
    plain = score(parts.test.named(), predict, POLICY, MaskRule(0.4))
    assert of_card.plain_iou_error == expected_iou_error(plain) != of_card.expected_iou_error


def test_what_the_rule_leaves_out_is_no_part_of_the_scores_but_of_the_calibration_error(parts: Parts) -> None:
    strict = replace(CALIBRATION, least_component=1.0)
    usual, predict = study(parts.train, POLICY), _predictor_at(CALIBRATION.temperature).predict
    of_card, scores = measure(parts, _predictor_at, strict, usual, POLICY)
    of_all, every = measure(parts, _predictor_at, CALIBRATION, usual, POLICY)
    assert scores == score(parts.test.named(), predict, POLICY, MaskRule(0.4, 1.0), strict.expected_iou) != every
    assert of_card.plain_iou_error == expected_iou_error(score(parts.test.named(), predict, POLICY, MaskRule(0.4, 1.0)))
    assert of_card.calibration_error == of_all.calibration_error


def test_the_calibration_error_before_is_that_at_temperature_1(parts: Parts) -> None:
    of_card, _ = measure(parts, _predictor_at, CALIBRATION, study(parts.train, POLICY), POLICY)
    before, after = (
        calibration_error(count_levels(parts.test.named(), _predictor_at(temperature).predict, POLICY))
        for temperature in (1.0, 2.0)
    )
    assert of_card.calibration_error is not None
    assert (of_card.calibration_error.before, of_card.calibration_error.after) == (before, after)
    assert before != after
    assert of_card.calibration_error.bins == 15


@pytest.mark.parametrize(("limit", "flagged"), [(1e-9, 1.0), (1e9, 0.0)])
def test_test_images_beyond_the_limit_are_counted_as_flagged(parts: Parts, limit: float, flagged: float) -> None:
    described = features(load(parts.dataset.pairs[0])[0])
    likeness = Likeness(described, np.ones_like(described), limit)
    usual = Usual(PLAIN, likeness, UsualShare(0, 1))
    of_card, _ = measure(parts, _predictor_at, CALIBRATION, usual, POLICY)
    assert (of_card.flagged_fraction, of_card.flagged_masks_fraction) == (flagged, 0)


@pytest.mark.parametrize(("margins", "flagged"), [("trim", 0.0), ("keep", 1.0)])
def test_a_test_image_is_compared_without_its_margins(
    margins: Literal["trim", "keep"], flagged: float, parts: Parts, tmp_path: Path
) -> None:
    policy = InputPolicy(kind="fit", height=64, width=64, margins=margins)
    image, mask = load(parts.dataset.pairs[0])
    write(tmp_path / "images" / "one.png", np.pad(image, ((99, 99), (99, 99), (0, 0))))
    write(tmp_path / "masks" / "one.png", np.pad(mask, 99) * np.uint8(255))
    framed = replace(parts, test=PairCache(open_dataset(tmp_path).pairs, 1e9))
    of_card, _ = measure(framed, _predictor_at, CALIBRATION, study(parts.train, policy), policy)
    assert of_card.flagged_fraction == flagged


def test_masks_that_cover_an_unusual_share_are_counted_as_flagged(parts: Parts) -> None:
    counted = count_levels(parts.test.named(), _predictor_at(CALIBRATION.temperature).predict, POLICY)
    shares = sorted(float(image.pixels[102:].sum()) / float(image.pixels.sum()) for image in counted)  # from 0.4 on
    assert len(set(shares)) == 3
    usual = Usual(PLAIN, study(parts.train, POLICY).likeness, UsualShare(shares[0], shares[1]))
    of_card, _ = measure(parts, _predictor_at, CALIBRATION, usual, POLICY)
    assert of_card.flagged_masks_fraction == pytest.approx(1 / 3)
    usual = Usual(PLAIN, usual.likeness, UsualShare(shares[0], shares[-1]))
    assert measure(parts, _predictor_at, CALIBRATION, usual, POLICY)[0].flagged_masks_fraction == 0


def test_what_the_rule_leaves_out_covers_nothing(parts: Parts) -> None:
    strict = replace(CALIBRATION, least_component=1.0)
    kept = count_levels(parts.test.named(), _predictor_at(strict.temperature).predict, POLICY, strict.rule)
    shares = [float(image.pixels[102:].sum()) / float(image.pixels.sum()) for image in kept]
    usual = Usual(PLAIN, study(parts.train, POLICY).likeness, UsualShare(min(shares), max(shares)))
    for calibration, is_flagged in ((strict, False), (CALIBRATION, True)):
        of_card, _ = measure(parts, _predictor_at, calibration, usual, POLICY)
        assert (of_card.flagged_masks_fraction != 0) == is_flagged


def test_masks_of_parts_of_a_scene_may_cover_other_shares(parts: Parts) -> None:
    """A picture of a quarter of a tile shows a part, where pictures keep their resolution."""
    tile = InputPolicy(kind="tile", height=512, width=512)
    counted = count_levels(parts.test.named(), _predictor_at(CALIBRATION.temperature).predict, tile)
    shares = [float(image.pixels[102:].sum()) / float(image.pixels.sum()) for image in counted]
    inset = 0.1 * (max(shares) - min(shares))
    share = UsualShare(min(shares) + inset, max(shares) - inset)
    assert not all(share.has(found) for found in shares)
    usual = Usual(PLAIN, study(parts.train, tile).likeness, share)
    assert measure(parts, _predictor_at, CALIBRATION, usual, tile)[0].flagged_masks_fraction == 0


def test_the_usual_share_is_learnt_from_the_masks_within_their_frames(parts: Parts) -> None:
    (_, (image, mask)) = next(parts.train.named())
    share = share_of(int(np.count_nonzero(mask)), place(image, POLICY))
    assert study(parts.train, POLICY).share == UsualShare.fit([share])
    assert share == pytest.approx(np.mean(mask > 0))

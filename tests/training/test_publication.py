"""From a trained network to a checkpoint: the card is true, what does not hold up is not published."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from service.engine.choosing import EXACT, load_engine
from service.engine.parity import probe_difference, probe_tile
from service.engine.quality import Agreement
from service.errors import BadCheckpoint
from service.imaging.policy import InputPolicy
from service.imaging.share import UsualShare
from service.imaging.statistics import FEATURES, Likeness
from service.network import build
from service.store.card import Data, IouEstimate, Normalisation, TrainingMasks
from service.store.checkpoint import CARD, Checkpoint, sha256
from service.store.model_store import ModelStore
from service.store.publish import publish_next
from service.training.config import configure
from service.training.parts import Usual
from service.training.publication import Trained, describe, prove_and_publish
from service.training.scores import ImageScore, Predict
from tests.cards import WEIGHTS, make_card, make_scores
from tests.checkpoints import TINY
from tests.network.as_if_trained import as_if_trained

CONFIG = configure(
    "/data/of/mine", "retina", "quick", {"input": InputPolicy(kind="stretch", height=64, width=96), "seed": 7}
)
USUAL = Usual(
    Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)),
    Likeness(np.ones(len(FEATURES)), np.ones(len(FEATURES)), 2.0),
    UsualShare(0.043211, 0.21),
)


def _trained(**changes: Any) -> Trained:
    fields: dict[str, Any] = {
        "config": CONFIG,
        "network": as_if_trained(build("al-net", **TINY)).float(),
        "architecture_config": TINY,
        "usual": USUAL,
        "temperature": 1.5,
        "threshold": 0.4,
        "expected_iou": IouEstimate(offset=0.25, plain=0.75, decided=0.5),
        "data": Data(name="mine", digest="a" * 64, n_train=5, n_validation=2, n_test=3, split="by hand"),
        "commit": "0123456789ab",
        "best_epoch": 4,
        "seconds": 12.34,
        "device": "a CPU",
        "test": make_scores(),
    }
    return Trained(**(fields | changes))


def _scoring(iou: float) -> Callable[[Predict], Sequence[ImageScore]]:
    return lambda predict: [ImageScore("one", Agreement(iou=iou, accuracy=1.0, dice=1.0), 0.5)]


def test_the_card_describes_the_network_that_was_trained() -> None:
    trained = _trained()
    card, weights = describe(trained)
    assert card.parameters_in_training == sum(tensor.numel() for tensor in trained.network.parameters())
    assert card.parameters == sum(tensor.numel() for tensor in load(weights).values())
    assert 0 < card.largest_logit_difference < 1e-7
    assert card.weights_sha256 == sha256(weights)
    assert (card.modality, card.label, card.version) == ("retina", "vessel", "1")
    assert (card.training.seed, card.training.preset, card.training.best_epoch) == (7, "quick", 5)
    assert card.training.config["learning_rate"] == CONFIG.learning_rate
    assert card.training.config["data"] == "mine"
    assert torch.__version__.startswith(card.training.versions["torch"])
    assert (card.temperature, card.threshold, card.input) == (1.5, 0.4, CONFIG.input)
    assert card.expected_iou == trained.expected_iou is not None
    assert (card.normalisation, card.training_images.limit) == (USUAL.normalisation, 2.0)
    assert card.training_masks == TrainingMasks(least=0.0432, most=0.21)
    assert card.test == make_scores()


def test_the_card_calls_the_share_of_no_training_mask_unusual() -> None:
    usual = replace(USUAL, share=UsualShare(0.04326, 0.21004))
    assert describe(_trained(usual=usual))[0].training_masks == TrainingMasks(least=0.0432, most=0.2101)


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (0.00006, 0.99996)])
def test_the_card_calls_empty_and_full_masks_usual_only_if_training_masks_are(least: float, most: float) -> None:
    usual = replace(USUAL, share=UsualShare(least, most))
    assert describe(_trained(usual=usual))[0].training_masks == TrainingMasks(least=least, most=most)


def test_the_trained_network_is_left_as_it_was() -> None:
    trained = _trained()
    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    describe(trained)
    assert trained.network.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.network.state_dict().items())


def test_what_is_proven_is_scored_in_float32_as_the_run_was(tmp_path: Path) -> None:
    """Of few test images, one pixel in a mask that should be empty is too much: bfloat16 may find it."""
    card, weights = describe(_trained())
    scored_by: list[str] = []

    def score_again(predict: Predict) -> Sequence[ImageScore]:
        scored_by.append(predict.__self__.device)  # type: ignore[attr-defined]
        return _scoring(0.7)(predict)

    prove_and_publish(card, weights, None, tmp_path, score_again)
    assert [device.split()[-1] for device in scored_by] == ["float32"]


def test_an_engine_reproduces_the_recorded_probe(tmp_path: Path) -> None:
    card, weights = describe(_trained())
    folder = prove_and_publish(card, weights, tmp_path / "store", tmp_path / "run", _scoring(0.7))
    engine = load_engine(Checkpoint.read(folder), EXACT)
    assert probe_difference(engine.card, engine.predict([probe_tile(engine.card)])[0]) < 1e-5
    assert len(set(card.probe.answer)) > 10


def test_a_checkpoint_that_serves_other_scores_is_not_published(tmp_path: Path) -> None:
    card, weights = describe(_trained())
    with pytest.raises(BadCheckpoint, match=r"scores IoU 0\.6500; in training 0\.7000"):
        prove_and_publish(card, weights, tmp_path / "store", tmp_path / "run", _scoring(0.65))
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_whose_weights_are_another_networks_is_not_published(tmp_path: Path) -> None:
    card, _ = describe(_trained())
    _, weights = describe(_trained(network=build("al-net", **TINY)))
    forged = card.model_copy(update={"weights_sha256": sha256(weights)})
    with pytest.raises(BadCheckpoint, match="does not reproduce"):
        prove_and_publish(forged, weights, tmp_path / "store", tmp_path / "run", _scoring(0.7))
    assert not (tmp_path / "store").exists()


def test_proving_again_after_an_interruption_starts_afresh_and_publishes_once(tmp_path: Path) -> None:
    card, weights = describe(_trained(test=None))
    for _ in range(2):
        folder = prove_and_publish(card, weights, tmp_path / "store", tmp_path / "run", _scoring(0.0))
        assert folder == tmp_path / "store" / "retina" / "1"
    assert ModelStore(tmp_path / "store").published("retina") == ["1"]


def test_a_broken_version_in_the_store_stops_nobody_and_hides_nothing(tmp_path: Path) -> None:
    card, weights = describe(_trained(test=None))
    broken = tmp_path / "store" / "retina" / "1"
    broken.mkdir(parents=True)
    (broken / CARD).write_text("no card")
    for _ in range(2):
        folder = prove_and_publish(card, weights, tmp_path / "store", tmp_path / "run", _scoring(0.0))
        assert folder == tmp_path / "store" / "retina" / "2"


@pytest.mark.parametrize(
    "changes",
    [{"seconds": 56.7}, {"config": CONFIG.model_copy(update={"label": "vein"})}],
    ids=["trained once more", "another label"],
)
def test_another_run_is_published_though_its_weights_are_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = _trained(test=None)
    for version, trained in (("1", first), ("2", replace(first, **changes))):
        card, weights = describe(trained)
        folder = prove_and_publish(card, weights, tmp_path / "store", tmp_path / "run", _scoring(0.0))
        assert folder == tmp_path / "store" / "retina" / version


def test_without_a_store_the_checkpoint_stays_in_the_run(tmp_path: Path) -> None:
    card, weights = describe(_trained(test=None))
    folder = prove_and_publish(card, weights, None, tmp_path, _scoring(0.0))
    assert folder == tmp_path / "checkpoint" / "retina" / "1"
    assert Checkpoint.read(folder).card == card


def test_jobs_that_publish_at_once_get_versions_of_their_own(tmp_path: Path) -> None:
    jobs = 8
    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(publish_next, tmp_path, make_card(), WEIGHTS) for _ in range(jobs)]
        folders = {job.result() for job in done}
    assert {int(folder.name) for folder in folders} == set(range(1, jobs + 1))
    assert ModelStore(tmp_path).newest("retina").card.version == str(jobs)

"""The gate: which answers to the probe are let through."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.engine.choosing import EXACT, load_engine
from service.engine.parity import Parity, probe_difference, probe_tile
from service.engine.weights import build_network, read_state
from service.errors import BadCheckpoint, EngineFailed
from service.store.card import Card
from service.store.checkpoint import Checkpoint
from tests.checkpoints import publish_tiny
from tests.one_thread import one_thread

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


class Answering:
    """An engine that gives the same map to every tile, or fails."""

    device = "nowhere"

    def __init__(self, card: Card, answer: NDArray[np.uint8] | Exception) -> None:
        self.card, self.answer = card, answer

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(tiles)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return publish_tiny(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def exact(checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """What float32 answers to the probe."""
    [answer] = load_engine(checkpoint, EXACT).predict([probe_tile(checkpoint.card)])
    return answer


def gate(checkpoint: Checkpoint, threshold: float) -> Parity:
    card = checkpoint.card.model_copy(update={"threshold": threshold})
    return Parity(card, build_network(card, read_state(checkpoint)))


def test_the_recorded_answer_is_reproduced_to_the_rounding_of_a_level(
    checkpoint: Checkpoint, exact: NDArray[np.uint8]
) -> None:
    assert probe_difference(checkpoint.card, exact) < 1e-6


def test_the_answer_of_float32_passes(checkpoint: Checkpoint, exact: NDArray[np.uint8]) -> None:
    assert not gate(checkpoint, 0.5).fault(Answering(checkpoint.card, exact))


def test_another_answer_is_told_by_how_much_it_differs(checkpoint: Checkpoint, exact: NDArray[np.uint8]) -> None:
    other = np.where(exact > 127, 0, 255).astype(np.uint8)
    assert "mean difference" in gate(checkpoint, 0.5).fault(Answering(checkpoint.card, other), masks=False)


def test_another_mask_is_refused_though_probabilities_hardly_differ(
    checkpoint: Checkpoint, exact: NDArray[np.uint8]
) -> None:
    threshold = float(np.median(exact)) / 255  # half of the mask hangs on a single level
    found = np.where(exact == np.median(exact), exact - 1, exact).astype(np.uint8)
    parity = gate(checkpoint, threshold)
    assert "IoU" in parity.fault(Answering(checkpoint.card, found))
    assert not parity.fault(Answering(checkpoint.card, found), masks=False)


@pytest.mark.parametrize(("iou", "passes"), [(0.9895, False), (0.9905, True)])
def test_masks_that_share_99_of_100_pixels_agree(
    checkpoint: Checkpoint, exact: NDArray[np.uint8], iou: float, *, passes: bool
) -> None:
    threshold = float(np.median(exact)) / 255
    inside = np.flatnonzero(exact >= np.median(exact))
    lost = inside[np.argsort(exact.flat[inside])][: round((1 - iou) * len(inside))]
    found = exact.copy()
    found.flat[lost] = np.median(exact) - 1
    assert bool(gate(checkpoint, threshold).fault(Answering(checkpoint.card, found))) is not passes


def test_two_empty_masks_agree(checkpoint: Checkpoint, exact: NDArray[np.uint8]) -> None:
    assert not gate(checkpoint, 1.0).fault(Answering(checkpoint.card, exact))


def test_a_failure_on_the_probe_is_raised_as_it_is(checkpoint: Checkpoint) -> None:
    engine = Answering(checkpoint.card, EngineFailed("the network answered with NaN"))
    with pytest.raises(EngineFailed, match="NaN"):
        gate(checkpoint, 0.5).fault(engine)


def test_a_network_that_does_not_reproduce_its_own_record_is_a_bad_checkpoint(checkpoint: Checkpoint) -> None:
    recorded = checkpoint.card.probe
    answer = tuple(float(value < 0.5) for value in recorded.answer)
    opposite = checkpoint.card.model_copy(update={"probe": recorded.model_copy(update={"answer": answer})})
    with pytest.raises(BadCheckpoint, match="does not reproduce its recorded probe: mean difference"):
        Parity(opposite, build_network(checkpoint.card, read_state(checkpoint)))


def test_a_network_that_answers_no_number_is_a_bad_checkpoint_and_no_failed_engine(checkpoint: Checkpoint) -> None:
    network = build_network(checkpoint.card, read_state(checkpoint))
    with torch.no_grad():
        network.get_parameter("low.bias").fill_(torch.nan)
    with pytest.raises(BadCheckpoint, match=r"^retina/1: the network answered with NaN$") as refused:
        Parity(checkpoint.card, network)
    assert not refused.value.may_pass


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_a_difference_that_is_no_number_is_no_agreement(checkpoint: Checkpoint) -> None:
    rows = 2 * checkpoint.card.input.height  # which no card has that was checked
    recorded = checkpoint.card.probe.model_copy(update={"rows": rows, "columns": 1, "answer": (0.0,) * rows})
    empty_cells = checkpoint.card.model_copy(update={"probe": recorded})
    with pytest.raises(BadCheckpoint, match="mean difference nan"):
        Parity(empty_cells, build_network(checkpoint.card, read_state(checkpoint)))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_an_engine_whose_answer_has_no_pixels_is_refused(checkpoint: Checkpoint) -> None:
    engine = Answering(checkpoint.card, np.zeros((0, 0), np.uint8))
    assert "mean difference nan" in gate(checkpoint, 0.5).fault(engine, masks=False)

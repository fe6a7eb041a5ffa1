"""The engines' benchmark: which are measured, what the ratios are, and what stands in for one that is missing."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from service.benchmark import engines
from service.benchmark.engines import BASELINE, EnginesReport, Tile, TimedEngine, engines_table, measure_engines
from service.cli import app
from service.engine.choosing import Wish, choices
from service.engine.parity import probe_tile
from service.engine.predictor import Predictor
from service.engine.torch_engine import TorchEngine, precisions
from service.engine.weights import build_network, read_state
from service.reproduction.machine import this_machine
from tests.checkpoints import publish_tiny
from tests.one_thread import one_thread

CPU = torch.device("cpu")

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def report(**seconds: list[float]) -> EnginesReport:
    return EnginesReport(
        machine=this_machine(),
        modality="cell",
        version="1",
        grid=(64, 96),
        batches=[2],
        engines=[TimedEngine(name=name, seconds={2: taken}, probe_iou=0.995) for name, taken in seconds.items()],
        missing={"openvino, int8": "it has none"},
    )


def test_a_ratio_is_that_of_medians_to_the_first_engine() -> None:
    lines = engines_table(report(plain=[0.2, 0.1, 9.0], fast=[0.05, 0.1, 0.02])).splitlines()
    assert lines[0].endswith(". cell version 1, 64×96; medians of 3 batches, the engines in turn.")
    assert lines[2] == "| engine | batch 2: ms an image | × as fast | IoU with float32 |"
    assert lines[4:6] == ["| plain | 100.0 | 1.00 | 0.9950 |", "| fast | 25.0 | 4.00 | 0.9950 |"]


def test_times_have_three_digits_or_more() -> None:
    lines = engines_table(report(slow=[0.2468], fast=[0.00246], faster=[0.000246])).splitlines()
    assert [line.split(" | ")[1] for line in lines[4:7]] == ["123.4", "1.23", "0.123"]


def test_a_missing_engine_is_told_with_its_reason() -> None:
    assert engines_table(report(plain=[0.1])).splitlines()[-1] == "Not here: openvino, int8: it has none."


def test_the_iou_is_that_of_each_engines_own_answer_to_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inverted(TorchEngine):
        def predict(self, tiles: Sequence[Tile]) -> list[Tile]:
            return [255 - levels for levels in super().predict(tiles)]

    checkpoint = publish_tiny(tmp_path / "store", "cell")
    card = checkpoint.card
    predictor = Predictor.exact(
        build_network(card, read_state(checkpoint)), card.normalisation, temperature=card.temperature
    )
    monkeypatch.setattr(engines, "load_engine", lambda *_: Inverted(card, predictor, "cpu float32"))
    tiles = [probe_tile(card)]
    baseline, *others = measure_engines(checkpoint, tiles, device="cpu", batches=[1], repeat=1, warm_up=0).engines
    assert baseline.probe_iou > 0.9
    assert {one.probe_iou for one in others} == {0.0}


def test_the_command_measures_the_baseline_and_every_engine_of_this_machine(tmp_path: Path) -> None:
    store = publish_tiny(tmp_path / "store", "nucleus").folder.parents[1]  # not one that the code draws
    known = ["--modality", "nucleus", "--store", str(store), "--device", "cpu", "--repeat", "2", "--warm-up", "1"]
    twice = ["--batch", "3", "--batch", "3"]
    result = CliRunner().invoke(app, ["benchmark", "engines", *known, *twice, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = EnginesReport.model_validate_json((tmp_path / "out" / "engines.json").read_text())
    assert (found.modality, found.batches) == ("nucleus", [3])
    timed = {engine.name: engine for engine in found.engines}
    places = choices(CPU, Wish(), has_int8=False, has_openvino=find_spec("openvino") is not None)
    assert list(timed) == [f"{BASELINE}, {precisions(CPU, 'auto')[0]}", *(", ".join(place) for place in places)]
    assert all(len(engine.seconds[3]) == 2 and engine.image_ms(3) > 0 for engine in found.engines)
    assert timed["torch, float32"].probe_iou == 1.0
    assert (tmp_path / "out" / "engines.md").read_text() in result.stdout

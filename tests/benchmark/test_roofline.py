"""The roofline: what a stage could take at least, that no operation is missed, and what the command leaves."""

import time
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from typer.testing import CliRunner

from service.benchmark import roofline as roofline_module
from service.benchmark.roofline import ROUNDS, Roofline, Stage, measure_roofline, roofline_table, seconds_of
from service.cli import app
from service.engine.torch_engine import served_form
from service.engine.weights import build_network, read_state
from service.reproduction.machine import this_machine
from service.reproduction.macs import macs_an_image
from tests.checkpoints import publish_tiny
from tests.one_thread import one_thread

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def roofline(*stages: Stage) -> Roofline:
    return Roofline(
        machine=this_machine(),
        modality="cell",
        version="1",
        grid=(64, 96),
        precision="float32",
        batch=2,
        operations_s=1e12,
        bytes_s=1e9,
        whole_s=0.004,
        stages=list(stages),
    )


def test_a_stage_takes_at_least_the_longer_of_its_operations_and_its_bytes() -> None:
    computes = Stage(name="computes", macs=10**9, moved_bytes=10**6, seconds=0.004)
    moves = Stage(name="moves", macs=10**6, moved_bytes=10**6, seconds=0.002)
    found = roofline(computes, moves)
    assert found.floor_s(computes) == pytest.approx(0.002)
    assert found.floor_s(moves) == pytest.approx(0.001)
    assert roofline_table(found).splitlines()[-2:] == [
        "| computes | 0.500 | 0.50 | 2,000.0 | 1,000.0 | arithmetic | 0.50 |",
        "| moves | 0.001 | 0.50 | 1,000.0 | 500.0 | memory | 0.50 |",
    ]


def test_the_command_finds_every_operation_of_the_network(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path / "store", "cell")
    store, out = checkpoint.folder.parents[1], tmp_path / "deep" / "out"
    arguments = [
        "--store",
        str(store),
        "--device",
        "cpu",
        *("--batch", "1", "--batch", "3", "--batch", "3"),
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(app, ["benchmark", "roofline", *arguments])
    assert result.exit_code == 0, result.output
    found = TypeAdapter(list[Roofline]).validate_json((out / "roofline.json").read_text())
    assert [one.batch for one in found] == [1, 3]
    card = checkpoint.card
    network = served_form(build_network(card, read_state(checkpoint)), card.input.grid, torch.device("cpu"))
    for one in found:
        assert sum(stage.macs for stage in one.stages) == one.batch * macs_an_image(network, card.input.grid)
        assert min(stage.moved_bytes for stage in one.stages) > 0
        assert min(stage.seconds for stage in one.stages) > 0
    assert (out / "roofline.md").read_text() in result.stdout


def test_ceilings_and_bytes_count_what_is_read_and_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline_module, "seconds_of", lambda work, device: (work(), 0.5)[1])
    monkeypatch.setattr(roofline_module, "MULTIPLIED", {"cpu": 10})
    monkeypatch.setattr(roofline_module, "COPIED_BYTES", {"cpu": 1000})
    found = measure_roofline(publish_tiny(tmp_path / "store", "cell"), device="cpu", batch=2)
    assert (found.operations_s, found.bytes_s, found.whole_s) == (2 * 10**3 / 0.5, 2 * 1000 / 0.5, 0.5)
    normalise, pixels = found.stages[0], 2 * 3 * found.grid[0] * found.grid[1]
    size = {"float32": 4}.get(found.precision, 2)
    assert (normalise.name, normalise.moved_bytes) == ("normalise", pixels * (1 + size) + 2 * 3 * 4)


def test_seconds_are_those_of_the_work() -> None:
    runs: list[float] = []

    def work() -> None:
        runs.append(time.monotonic())
        time.sleep(0.002)

    assert seconds_of(work, torch.device("cpu")) >= 0.002
    assert len(runs) == ROUNDS

"""alnet reproduce: its options, what it prints, and what is left of it after SIGKILL."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from service.cli import app
from service.commands.reproduce import choose, command_line, subject
from service.errors import BadConfig, BadDataset, BadParameter
from service.reproduction.accuracy_table import heading
from service.training.run_folder import RESULT
from service.training.run_lock import LOCK
from tests.training.alnet_train import ENVIRONMENT

TINY = (
    *("--data", "drawn:retina:6", "--input", "fit:64x64", "--crop", "64", "--batch-size", "2", "--precision"),
    *("float32", "--steps-per-epoch", "1", "--epochs", "2", "--learning-rate", "0.001"),
)
SIX = ["al-net", "repvgg-unet", "deeplabv3plus", "cenet", "unetplusplus", "pyconvunet"]


def _reproduce(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.mark.parametrize(
    ("modality", "tables", "keys", "chosen"),
    [
        ("retina", [], [], SIX),
        ("skin", [8], [], SIX),
        ("cell", [], [], [SIX[0], "al-net-resnet34", "al-net-aspp", "al-net-u", *SIX[1:]]),
        ("cell", [2], [], ["al-net", "al-net-resnet34"]),
        ("cell", [3, 4], [], ["al-net", "al-net-aspp", "al-net-u"]),
        ("cell", [7], ["cenet", "al-net"], ["al-net", "cenet"]),
        ("retina", [], ["al-net-u"], ["al-net-u"]),
    ],
)
def test_tables_and_keys_choose_networks(modality: str, tables: list[int], keys: list[str], chosen: list[str]) -> None:
    assert [compared.key for compared in choose(modality, tables, keys)] == chosen


@pytest.mark.parametrize(("tables", "key"), [([], "u-net"), ([2], "cenet")])
def test_a_network_that_is_not_compared_is_refused(tables: list[int], key: str) -> None:
    with pytest.raises(BadParameter, match="there are al-net, "):
        choose("cell", tables, [key])


@pytest.mark.parametrize(
    ("data", "modality", "tables", "expected"),
    [("folder", "skin", [], "skin"), ("folder", None, [2, 7], "cell"), ("drawn:cell:8", None, [], "cell")],
)
def test_modality_tables_or_drawn_data_say_what_is_shown(
    data: str, modality: str | None, tables: list[int], expected: str
) -> None:
    assert subject(data, modality, tables) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--data", "nowhere"), BadParameter, "--modality is missing: retina, cell, skin"),
        (("--data", "nowhere", "--table", "1"), BadParameter, "there are 2, 3, 4, 6, 7, 8"),
        (("--data", "nowhere", "--table", "5"), BadParameter, "alnet benchmark networks"),
        (("--data", "nowhere", "--table", "2", "--modality", "retina"), BadParameter, "is of cell data, not retina"),
        (
            ("--data", "drawn:cell:8", "--table", "6"),
            BadParameter,
            "--table 6 is of retina data, not cell",
        ),
        (("--data", "drawn:heart"), BadParameter, "drawn:retina"),
        (("--data", "drawn:cell:8", "--modality", "retina"), BadParameter, "drawn:cell:8 is cell, not retina"),
        (("--data", "drawn:skin", "--input", ""), BadParameter, "--input ''"),
        (("--data", "nowhere", "--modality", "skin"), BadDataset, "nowhere"),
        (("--data", "drawn:skin", "--preset", "fast"), BadConfig, "paper, quick"),
        (("--data", "drawn:skin", "--input", "fit"), BadParameter, "--input"),
    ],
)
def test_a_wrong_call_leaves_nothing_behind(
    tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = _reproduce(*arguments, "--out", tmp_path / "out")
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_the_command_is_recorded_as_it_can_be_given_again() -> None:
    command = get_command(app).commands["reproduce"]  # type: ignore[attr-defined]  # a group's
    given = ["--data", "drawn:skin", "--no-series", "--folds", "2", "--network", "al-net", "--network", "cenet"]
    with command.make_context("alnet", list(given)) as context:
        recorded = shlex.split(command_line(context))
    assert recorded[:2] == ["alnet", "reproduce"]
    with command.make_context("alnet", recorded[2:]) as again:
        assert again.params == context.params


def test_every_option_says_what_it_does() -> None:
    group = get_command(app)
    found = group.commands["reproduce"].params  # type: ignore[attr-defined]
    assert [option.name for option in found if not option.help] == []


def test_where_every_network_fails_the_table_says_why_and_the_exit_code_is_1(tmp_path: Path) -> None:
    arguments = (*TINY, "--learning-rate", "1e30", "--network", "al-net", "--steps-per-epoch", "3", "--out", tmp_path)
    result = _reproduce(*arguments)
    assert result.exit_code == 1
    row = result.stdout.splitlines()[-1]
    assert result.stdout == f"{heading()}\n{row}\n"
    assert row.startswith("| AL-Net | failed: the loss is nan in epoch 1: start anew ")
    table = (tmp_path / "retina" / "table.md").read_text()
    assert row in table.splitlines()
    given = "alnet reproduce --data drawn:retina:6 --network al-net --input fit:64x64 --epochs 2 --steps-per-epoch 3"
    assert f"Command: `{given} " in table
    assert json.loads((tmp_path / "retina" / "scores.json").read_bytes()) == {}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_reproduction_goes_on_where_it_was(tmp_path: Path) -> None:
    networks = ("--network", "al-net", "--network", "al-net-u")
    command = [sys.executable, "-m", "service.cli", "reproduce", *TINY, *networks, "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stderr is not None
        for said in process.stderr:
            if said.startswith("al-net-u: epoch 1/2"):
                process.kill()
                break
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    first = printed.splitlines()
    assert first[:2] == heading().splitlines()
    assert [line.split("|")[1].strip() for line in first[2:]] == ["AL-Net"]
    result = tmp_path / "retina" / "al-net" / RESULT
    finished = result.stat().st_mtime_ns

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert next(line for line in done.stderr.splitlines() if "epoch" in line).startswith("al-net-u: epoch 2/2")
    assert not [line for line in done.stderr.splitlines() if line.startswith("al-net: ")]
    assert result.stat().st_mtime_ns == finished
    assert done.stdout.splitlines()[:3] == first
    assert "AL-Net, U-Decoder" in done.stdout.splitlines()[3]
    folder = tmp_path / "retina"
    assert set(json.loads((folder / "scores.json").read_bytes())) == {"al-net", "al-net-u"}
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        *(LOCK, "table.md", "table.json", "scores.json", "curves.png", "pictures.png")
    }

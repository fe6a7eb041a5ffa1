"""The command line as a whole: help that teaches, errors of one line, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from service.cli import app
from service.settings import Settings

COMMANDS = ("serve", "train", "evaluate", "segment", "models")


def _alnet(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | environment
    )


def _help(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def test_help_lists_every_command() -> None:
    text = _help()
    for command in COMMANDS:
        assert command in text
    assert "Not a medical device" in text


@pytest.mark.parametrize("command", COMMANDS[:4])
def test_every_option_says_what_it_does(command: str) -> None:
    group = get_command(app)
    found = group.commands[command].params  # type: ignore[attr-defined]
    assert [option.name for option in found if not option.help] == []
    text = _help(command)
    for option in found:
        assert any(name in text for name in [*option.opts, (option.name or "").upper()]), option.name


def test_the_help_of_serve_lists_every_setting() -> None:
    text = _help("serve")
    for name in Settings.model_fields:
        assert f"ALNET_{name.upper()}" in text


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("train", "--data", "nowhere"), 2, "alnet: --modality is missing"),
        (("train", "--data", "nowhere", "--modality", "own"), 1, "alnet: nowhere"),
        (("segment", "nowhere.png", "--modality", "retina", "--out", "masks"), 2, "alnet: nowhere.png does not exist"),
        (("evaluate", "drawn:retina", "--modality", "liver", "--store", "."), 1, "alnet: no modality 'liver'"),
    ],
    ids=["config", "dataset", "parameter", "store"],
)
def test_an_error_is_one_line_and_an_exit_code(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = _alnet(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1


def test_a_file_in_the_way_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    grid = ("--input", "fit:32x32", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "1")
    done = _alnet("train", "--data", "drawn:skin:3", *grid, "--run", tmp_path / "file" / "run")
    assert done.returncode == 1
    assert done.stderr == f"alnet: [Errno 20] Not a directory: '{tmp_path / 'file' / 'run'}'\n"


def test_a_misspelt_variable_is_one_line(tmp_path: Path) -> None:
    done = _alnet("serve", "--store", tmp_path, ALNET_PROT="80")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "alnet: unknown setting ALNET_PROT; `alnet serve --help` lists those that exist\n"


def test_help_is_quick_since_it_loads_no_torch() -> None:
    program = "import sys; from service.cli import app; app(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr

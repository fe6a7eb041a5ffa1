"""alnet pretrain: from options to an encoder, and its errors."""

from pathlib import Path

import pytest
import torch
from typer.core import TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner, Result

from service.cli import app
from service.errors import BadConfig, BadParameter
from service.training.run_folder import RunFolder
from tests.network.published_efficientnet import LITE0, random_weights

GROUP = get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMAND = GROUP.commands["pretrain"]
TINY = ("--input", "stretch:64x64", "--crop", "64", "--batch-size", "2", "--steps-per-epoch", "1", "--workers", "0")
NETWORK = ("--network-option", "widths=8,8,8,8,8", "--network-option", "blocks=1,1,1,1,1")


def _pretrain(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["pretrain", *map(str, arguments)])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(random_weights(LITE0), tmp_path / "lite0.pth")
    return tmp_path / "lite0.pth"


def test_it_says_how_each_epoch_went_and_what_to_do_next(weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", "drawn:retina:8", "--weights", weights, "--run", run, *TINY, *NETWORK)
    ended = _pretrain(*options, "--epochs", "2", "--camera", "0.5")
    assert ended.exit_code == 0, ended.output
    assert "epoch 2/2  unlike the model" in ended.stdout
    assert ended.stdout.endswith(f"begin with it by `alnet train --encoder-weights {run / 'best.safetensors'}`\n")
    config = RunFolder(run).recorded_config()
    assert (config.modality, config.epochs, config.camera) == ("retina", 2, 0.5)
    assert config.imitates is not None
    assert config.imitates.startswith("lite0.pth sha256:")


def test_its_help_names_its_own_run_folder() -> None:
    (option,) = (parameter for parameter in COMMAND.params if parameter.name == "run")
    assert isinstance(option, TyperOption)
    assert "Default: runs/MODALITY-encoder, " in str(option.help)


def test_data_of_ones_own_needs_the_name_of_a_modality(weights: Path, tmp_path: Path) -> None:
    assert isinstance(_pretrain("--data", tmp_path, "--weights", weights).exception, BadParameter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--series", "--case-pattern", "(.)"), "--series alone"),
        (("--modality", "cell"), "drawn:retina:8 is retina, not cell"),
        (("--input", ""), "--input ''"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: tuple[str, ...], message: str, weights: Path, tmp_path: Path
) -> None:
    ended = _pretrain("--data", "drawn:retina:8", "--weights", weights, "--run", tmp_path / "run", *options)
    assert isinstance(ended.exception, BadParameter), ended.output
    assert message in str(ended.exception)


def test_missing_weights_are_an_error_before_anything_is_read(tmp_path: Path) -> None:
    ended = _pretrain("--data", "drawn:retina:8", "--weights", tmp_path / "none.pth", "--run", tmp_path / "run")
    assert isinstance(ended.exception, BadConfig)
    assert "none.pth cannot be read" in str(ended.exception)
    assert not (tmp_path / "run").exists()

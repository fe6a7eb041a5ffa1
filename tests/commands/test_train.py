"""alnet train: its options, and what they become."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.commands.train import parse_input
from service.errors import BadConfig, BadDataset, BadParameter
from service.imaging.policy import InputPolicy


def _train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("fit:605x700", InputPolicy(kind="fit", height=605, width=700)),
        ("stretch:256x512", InputPolicy(kind="stretch", height=256, width=512)),
        ("tile:512x512:64", InputPolicy(kind="tile", height=512, width=512, overlap=64)),
    ],
)
def test_an_input_is_parsed(text: str, policy: InputPolicy) -> None:
    assert parse_input(text) == policy


@pytest.mark.parametrize("text", ["", "fit", "fit:600", "fit:x", "fit:600xa", "crop:64x64", "fit:-1x5", "tile:64x64:b"])
def test_what_is_no_input_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match="--input") as refused:
        parse_input(text)
    assert "fit" in str(refused.value)


def test_sizes_that_no_network_could_take_are_refused() -> None:
    with pytest.raises(BadConfig, match="multiple of 32"):
        parse_input("tile:100x100")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--data", "nowhere"), BadParameter, "--modality is missing"),
        (("--data", "nowhere", "--modality", "retina"), BadDataset, "nowhere"),
        (("--data", "drawn:heart"), BadDataset, "drawn:retina"),
        (("--data", "drawn:retina", "--preset", "fast"), BadConfig, "paper, quick"),
        (("--data", "drawn:retina", "--epochs", "0"), BadConfig, "epochs"),
        (("--data", "drawn:retina", "--crop", "40"), BadConfig, "crop_px"),
        (("--data", "drawn:retina:8", "--case-pattern", "("), BadConfig, "case pattern"),
        (("--data", "drawn:retina:2"), BadDataset, "3 parts need 3"),
    ],
    ids=["no modality", "no folder", "no drawing", "preset", "epochs", "crop", "pattern", "too few"],
)
def test_a_wrong_call_leaves_nothing_behind(
    tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = _train(*arguments, "--run", tmp_path / "run", "--store", tmp_path / "store")
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())

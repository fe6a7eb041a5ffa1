"""alnet train: its options, and what they become."""

from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from service.cli import app
from service.commands.train import parse_input, parse_network_options
from service.errors import BadConfig, BadDataset, BadParameter
from service.imaging.policy import InputPolicy
from service.training.config import Config

GROUP = get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMANDS = GROUP.commands


def _train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("fit:605x700", InputPolicy(kind="fit", height=605, width=700)),
        ("stretch:256x512", InputPolicy(kind="stretch", height=256, width=512)),
        ("tile:512x512:64", InputPolicy(kind="tile", height=512, width=512, overlap=64)),
        ("fit:605x700:trim", InputPolicy(kind="fit", height=605, width=700, margins="trim")),
        ("fit:256x256:plain", InputPolicy(kind="fit", height=256, width=256, margins="plain")),
        (
            "tile:512x512:64:plain:stretch",
            InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="plain", levels="stretch"),
        ),
        ("fit:605x700:stretch", InputPolicy(kind="fit", height=605, width=700, levels="stretch")),
        ("tile:512x512:64:trim", InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="trim")),
    ],
)
def test_an_input_is_parsed(text: str, policy: InputPolicy) -> None:
    assert parse_input(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fit",
        "fit:600",
        "fit:x",
        "fit:600xa",
        "crop:64x64",
        "fit:-1x5",
        "tile:64x64:b",
        "fit:trim",
        "fit:64x64:trim:plain",
        "fit:64x64:stretch:plain",
    ],
)
def test_what_is_no_input_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match="--input") as refused:
        parse_input(text)
    assert "fit" in str(refused.value)


def test_sizes_that_no_network_could_take_are_refused() -> None:
    with pytest.raises(BadConfig, match="multiple of 32"):
        parse_input("tile:100x100")


@pytest.mark.parametrize("text", ["fit:1x1", "fit:31x700", "stretch:0x0", "tile:32x16:4"])
def test_a_grid_that_a_network_cannot_use_is_refused_with_the_smallest(text: str) -> None:
    kind = text.partition(":")[0]
    with pytest.raises(BadParameter, match=f"{kind}:32x32 is the smallest$"):
        parse_input(text)
    assert parse_input("fit:32x32").grid == (32, 32)


@pytest.mark.parametrize("text", ["stretch:512x512:64", "fit:605x700:0:trim"])
def test_an_overlap_of_what_are_no_tiles_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"only tiles overlap; leave :[0-9]+ out"):
        parse_input(text)


def test_network_options_are_numbers_lists_and_words() -> None:
    texts = ["encoder=resnet34", "context_channels=128", "decoder_channels=32,16"]
    assert parse_network_options(texts) == {
        "encoder": "resnet34",
        "context_channels": 128,
        "decoder_channels": [32, 16],
    }


@pytest.mark.parametrize("texts", [["encoder"], ["=3"], ["encoder="], ["a b=3"], ["encoder=a", "encoder=b"]], ids=str)
def test_what_is_no_network_option_is_refused_with_an_example(texts: list[str]) -> None:
    with pytest.raises(BadParameter, match=r"--network-option .* as encoder=resnet34"):
        parse_network_options(texts)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--fractions", "1 0 0"),
        ("--seed", "-1"),
        ("--fusion-stride", "3"),
        ("--steps-per-epoch", "-1"),
        ("--coarse-epochs", "-1"),
        ("--batch-size", "0"),
        ("--learning-rate", "0"),
        ("--decay", "2"),
        ("--weight-decay", "-1"),
        ("--average", "1"),
        ("--cl-dice", "2"),
        ("--validate-every", "0"),
        ("--shift", "-1"),
        ("--scale", "1"),
        ("--zoom", "4"),
        ("--rotation", "181"),
        ("--elastic", "-1"),
        ("--colour", "1"),
        ("--illumination", "1"),
        ("--camera", "2"),
        ("--frames", "2"),
        ("--blur", "-1"),
        ("--workers", "-1"),
        ("--cache-gib", "-1"),
    ],
)
def test_every_option_reaches_its_field_and_is_named_with_a_value_out_of_range(option: str, value: str) -> None:
    result = _train("--data", "drawn:retina", option, *value.split())
    assert isinstance(result.exception, BadConfig), result.output
    assert str(result.exception).startswith(
        f"{option} {value}" if option != "--fractions" else "configuration: --fractions must be"
    )


@pytest.mark.parametrize("option", ["--optimizer", "--schedule", "--thin", "--precision"])
def test_an_option_of_a_few_words_takes_no_others(option: str) -> None:
    result = _train("--data", "drawn:retina", option, "sideways")
    assert result.exit_code == 2
    assert "sideways" in result.output


@pytest.mark.parametrize("name", sorted(set(Config.model_fields) - {"preset", "modality", "data", "imitates"}))
def test_every_field_of_a_configuration_has_an_option(name: str) -> None:
    """Named alike, but for what --help says in fewer words; `imitates` is that of `alnet pretrain`."""
    others = {"input": "--input", "crop_px": "--crop", "network": "--network-option"}
    plain = name.removesuffix("_px").removesuffix("_deg").replace("_", "-")
    options = [option for parameter in COMMANDS["train"].params for option in parameter.opts]
    assert others.get(name, f"--{plain}") in options


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("train", {"grid", "network_option", "run", "store", "publish"}),
        ("pretrain", {"grid", "network_option", "run", "weights"}),
        ("reproduce", {"grid", "table", "out"}),
    ],
)
def test_parameters_are_named_as_fields_but_for_those_that_are_none(command: str, others: set[str]) -> None:
    """One of another name would change nothing, and nobody would hear of it."""
    names = {parameter.name for parameter in COMMANDS[command].params}
    assert names - Config.model_fields.keys() == others


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--data", "nowhere"), BadParameter, "--modality is missing"),
        (("--data", "nowhere", "--modality", "retina"), BadDataset, "nowhere"),
        (("--data", "drawn:heart"), BadDataset, "drawn:retina"),
        (("--data", "drawn:retina", "--preset", "fast"), BadConfig, "paper, quick"),
        (("--data", "drawn:retina", "--epochs", "0"), BadConfig, "epochs"),
        (("--data", "drawn:retina", "--crop", "40"), BadConfig, "--crop 40"),
        (("--data", "drawn:retina:8", "--case-pattern", "("), BadConfig, "case pattern"),
        (("--data", "drawn:retina:2"), BadDataset, "3 parts need 3"),
        (("--data", "drawn:retina", "--architecture", "segnet"), BadConfig, "no architecture 'segnet'"),
        (("--data", "drawn:retina", "--network-option", "encoder=vgg"), BadConfig, "not 'vgg'"),
        (("--data", "drawn:retina", "--architecture", "cenet", "--fusion-stride", "1"), BadParameter, "al-net's"),
        (("--data", "drawn:retina", "--network-option", "fusion_stride=1"), BadParameter, "--fusion-stride"),
        (("--data", "drawn:retina", "--encoder-weights", "no.pth"), BadConfig, "no.pth cannot be read"),
        (("--data", "drawn:retina", "--teaching", "0.5"), BadParameter, "--teacher"),
        (
            ("--data", "drawn:retina", "--soup", __file__, "--encoder-weights", __file__),
            BadConfig,
            "--soup averages whole networks: give --fine-tune",
        ),
        (
            ("--data", "drawn:retina", "--soup", "b.safetensors", "--fine-tune"),
            BadConfig,
            "b.safetensors cannot be read",
        ),
        (("--data", "drawn:retina", "--thin", "background"), BadParameter, "as --cl-dice 0.5"),
        (("--data", "drawn:retina", "--thin", "background", "--cl-dice", "0"), BadParameter, "as --cl-dice 0.5"),
        (
            ("--data", "drawn:retina", "--series", "--case-pattern", "(.)"),
            BadParameter,
            "--series alone for one volume",
        ),
        (("--data", "drawn:cell:8", "--modality", "retina"), BadParameter, "drawn:cell:8 is cell, not retina"),
        (("--data", "drawn:retina", "--input", ""), BadParameter, "--input ''"),
        (
            ("--data", "drawn:retina", "--shift", "1000"),
            BadConfig,
            "--shift 1000: the grid itself has no more than 608",
        ),
        (("--data", "drawn:retina", "--folds", "3"), BadConfig, "--fold which of them tests: give both"),
        (("--data", "drawn:retina", "--decay", "0.5"), BadConfig, "a cosine: --schedule exponential"),
    ],
    ids=[
        *("no modality", "no folder", "no drawing", "preset", "epochs", "crop", "pattern", "too few"),
        *("architecture", "network option", "fusion stride", "its own option", "encoder weights", "teaching"),
        *("soup of encoders", "soup of what is not there"),
        *("thin", "thin without a weight", "series of cases", "drawn otherwise", "no input", "shift", "folds alone"),
        "decay of a cosine",
    ],
)
def test_a_wrong_call_leaves_nothing_behind(
    tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = _train(*arguments, "--run", tmp_path / "run", "--store", tmp_path / "store")
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--run", "--encoder-weights", "--soup", "--teacher"])
def test_an_empty_path_is_not_the_current_folder(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = _train("--data", "drawn:retina", option, "", "--store", tmp_path / "store")
    assert isinstance(result.exception, BadParameter), result.output
    assert f"{option} is empty" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_the_mean_of_several_networks_is_published_as_it_is(tmp_path: Path) -> None:
    network = ("--network-option", "widths=8,8,8,8,8", "--network-option", "blocks=1,1,1,1,1")
    tiny = ("--input", "stretch:64x64", "--crop", "0", "--batch-size", "2", "--steps-per-epoch", "1")
    options = ("--data", "drawn:retina:8", *network, *tiny, "--store", tmp_path / "store")
    first, second = (tmp_path / name / "best.safetensors" for name in ("first", "second"))
    assert _train(*options, "--epochs", "1", "--run", first.parent, "--no-publish").exit_code == 0
    on = ("--fine-tune", "--encoder-weights", first, "--learning-rate", "1e-4", "--epochs")
    assert _train(*options, *on, "1", "--run", second.parent, "--no-publish").exit_code == 0
    soup = (*options, *on, "0", "--soup", second, "--soup", second, "--run", tmp_path / "soup")
    ended = _train(*soup)
    assert ended.exit_code == 0, ended.output
    names = "best.safetensors, best.safetensors, best.safetensors"
    assert f"weights: the mean of 3 networks of ours, {names}\n" in ended.output
    assert "\nnot trained, validation IoU 0." in ended.output
    assert [path.name for path in (tmp_path / "store" / "retina").iterdir()] == ["1"]
    first.unlink()  # what is finished needs no file any more
    again = _train(*soup)
    assert again.exit_code == 0, again.output
    assert "finished already" in again.output
    fewer = _train(*options, *on, "0", "--soup", second, "--run", tmp_path / "soup")
    assert isinstance(fewer.exception, BadConfig)


def test_the_same_command_goes_on_when_the_encoder_weights_are_gone(tmp_path: Path) -> None:
    network = ("--network-option", "widths=8,8,8,8,8", "--network-option", "blocks=1,1,1,1,1")
    tiny = ("--input", "stretch:64x64", "--crop", "0", "--batch-size", "2", "--steps-per-epoch", "1", "--epochs", "1")
    options = ("--data", "drawn:retina:8", *network, *tiny, "--no-publish")
    first = tmp_path / "first"
    assert _train(*options, "--run", first).exit_code == 0
    weights = (first / "best.safetensors").rename(tmp_path / "encoder.safetensors")
    again = (*options, "--run", tmp_path / "run", "--encoder-weights", weights)
    assert _train(*again).exit_code == 0
    weights.unlink()
    (tmp_path / "run" / "result.json").unlink()  # as killed before it was written
    ended = _train(*again)
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "run" / "result.json").exists()
    other = _train(*options, "--run", tmp_path / "run", "--encoder-weights", tmp_path / "other.safetensors")
    assert "other.safetensors cannot be read" in str(other.exception)

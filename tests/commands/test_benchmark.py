"""alnet benchmark: options, wrong calls, and what it leaves."""

from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage
from typer.main import get_command
from typer.testing import CliRunner, Result

from service.cli import app
from service.commands.benchmark import parse_size
from service.commands.networks import pick
from service.errors import BadParameter, BadSettings
from service.reproduction.networks_report import Report
from service.reproduction.networks_table import networks_table
from service.reproduction.paper import PAPER_NETWORKS
from tests.checkpoints import publish_tiny

DOCUMENT = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
SMALL = ("--size", "64x64", "--batch", "1", "--repeat", "2", "--warm-up", "1", "--network", "al-net")


def _networks(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", "networks", "--device", "cpu", *map(str, arguments)])


def test_it_prints_the_table_and_leaves_it_with_the_figures_and_a_plot(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = _networks(*SMALL, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    report = Report.model_validate_json((out / "networks.json").read_bytes())
    assert [one.title for one in report.measurements] == ["AL-Net (training form)", "AL-Net"]
    assert [len(one.times_ms) for one in report.measurements] == [2, 2]
    table = (out / "networks.md").read_text()
    assert table == networks_table(report)
    assert result.stdout == f"{table}\ntable, figures and plot: {out}\n"
    with PillowImage.open(out / "networks.png") as picture:
        assert picture.format == "PNG"


def test_a_wrong_call_leaves_nothing_behind(tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    scores.write_text("{}}")
    for arguments in (("--size", "64"), ("--network", "u-net"), ("--scores", scores)):
        result = _networks(*arguments, "--out", tmp_path / "out")
        assert isinstance(result.exception, BadParameter), result.output
    for arguments in (("--batch", "0"), ("--repeat", "0"), ("--warm-up", "-1"), ("--precision", "int8")):
        assert _networks(*arguments, "--out", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = _networks(*SMALL, "--device", "cuda", "--out", tmp_path / "out")
    assert isinstance(result.exception, BadSettings)
    assert not (tmp_path / "out").exists()


def test_sizes_are_height_by_width() -> None:
    assert parse_size("605x700") == (605, 700)


@pytest.mark.parametrize("text", ["", "512", "512x", "x512", "512×512", "512x512x3", "-1x64", "31x64", "64x0"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match="512x512"):
        parse_size(text)


def test_networks_are_picked_by_key_and_keep_their_order() -> None:
    assert [compared.key for compared in pick(["cenet", "al-net"], PAPER_NETWORKS)] == ["al-net", "cenet"]
    with pytest.raises(BadParameter, match=r"'u-net': there are al-net, .*pyconvunet"):
        pick(["u-net"], PAPER_NETWORKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pid", "1"], "--url"),
        (["--modality", "lung"], "retina, cell, skin, none of lung"),
        (["--modality", "cell", "--modality", "skin", "--images", "."], "of one modality"),
        (["--images", "."], "no images"),
    ],
)
def test_a_wrong_call_starts_no_server(tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [str(tmp_path) if argument == "." else argument for argument in arguments]
    result = CliRunner().invoke(app, ["benchmark", "serve", "--out", str(tmp_path / "out"), *given])
    assert isinstance(result.exception, BadParameter), result.output
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "url", ["", "localhost:9", "http://", "ftp://host", "http://host:x", "http://[::", "http://h:0"]
)
def test_an_address_that_is_none_is_told_with_an_example(tmp_path: Path, url: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", "serve", "--out", str(tmp_path / "out"), "--url", url])
    assert isinstance(result.exception, BadParameter), result.output
    assert f"--url {url!r}: write it with scheme and host, as http://host:8000" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_password_in_an_address_is_refused_and_not_told(tmp_path: Path) -> None:
    url = "http://me:secret@127.0.0.1:9"
    result = CliRunner().invoke(app, ["benchmark", "serve", "--out", str(tmp_path / "out"), "--url", url])
    assert isinstance(result.exception, BadParameter), result.output
    assert "secret" not in f"{result.exception}{result.output}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["secret\r\nX-Role: admin", "se cret", "sécret"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_told(tmp_path: Path, key: str) -> None:
    arguments = ["--out", str(tmp_path / "out"), "--url", "http://127.0.0.1:9", "--api-key", key]
    result = CliRunner().invoke(app, ["benchmark", "serve", *arguments])
    assert isinstance(result.exception, BadParameter), result.output
    assert "cret" not in f"{result.exception}{result.output}"
    assert not (tmp_path / "out").exists()


def test_a_server_that_would_refuse_every_upload_is_not_started(tmp_path: Path) -> None:
    arguments = ["benchmark", "serve", "--out", str(tmp_path / "out"), "--uploads", "1"]
    result = CliRunner().invoke(app, arguments, env={"ALNET_API_KEYS": "keys/api-keys"})
    assert isinstance(result.exception, BadParameter), result.output
    assert "give one of them with --api-key or BENCHMARK_API_KEY" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_process_that_is_not_there_is_not_measured_as_one_that_uses_nothing(tmp_path: Path) -> None:
    nobody = ["--url", "http://127.0.0.1:9", "--pid", str(2**31 - 1), "--no-limit"]
    result = CliRunner().invoke(app, ["benchmark", "serve", "--uploads", "1", "--out", str(tmp_path), *nobody])
    assert isinstance(result.exception, BadParameter), result.output
    assert "there is no such process" in str(result.exception)


@pytest.mark.parametrize("option", [("--callers", "0"), ("--open", "0"), ("--window-s", "0"), ("--windows", "2")])
def test_a_load_that_cannot_be_measured_is_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["benchmark", "serve", "--out", str(tmp_path / "out"), *option]).exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["engines", "roofline"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path: Path, command: str) -> None:
    checkpoint = publish_tiny(tmp_path / "store", "cell")
    checkpoint.weights_path.write_bytes(b"damaged")  # which a measurement would tell
    (tmp_path / "file").touch()
    arguments = ["--store", str(tmp_path / "store"), "--device", "cpu", "--out", str(tmp_path / "file" / "out")]
    assert isinstance(CliRunner().invoke(app, ["benchmark", command, *arguments]).exception, NotADirectoryError)


@pytest.mark.parametrize("name", ["networks", "engines", "roofline", "serve"])
def test_every_option_says_what_it_does(name: str) -> None:
    group = get_command(app)
    command = group.commands["benchmark"].commands[name]  # type: ignore[attr-defined]
    assert [option.name for option in command.params if not option.help] == []


@pytest.mark.parametrize("command", ["networks", "engines", "roofline", "serve"])
def test_the_document_names_every_option(command: str) -> None:
    group = get_command(app)
    options = group.commands["benchmark"].commands[command].params  # type: ignore[attr-defined]
    assert [option.opts[0] for option in options if f"`{option.opts[0]}`" not in DOCUMENT] == []


def test_the_document_names_every_network() -> None:
    assert [compared.key for compared in PAPER_NETWORKS if f"`{compared.key}`" not in DOCUMENT] == []

"""alnet evaluate: the table, the files, the parts of a split."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.errors import BadDataset, BadParameter, UnknownModality
from service.training.split import Split


def _evaluate(store: Path, *arguments: str | Path, data: str = "drawn:retina:2") -> Result:
    options = ["--modality", "retina", "--store", str(store), "--device", "cpu"]
    return CliRunner().invoke(app, ["evaluate", data, *options, *map(str, arguments)])


def test_it_prints_a_line_an_image_and_the_mean(store: Path) -> None:
    result = _evaluate(store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("image", "retina-000", "retina-001"),
        *("mean", "std", "expected"),
    ]
    rows = [line.split() for line in result.stdout.splitlines()]
    errors = [abs(float(row[1]) - float(row[4])) for row in rows[1:3]]
    assert float(rows[-1][5]) == pytest.approx(sum(errors) / 2, abs=2e-4)


def test_it_writes_scores_and_overlays_and_says_where(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = _evaluate(store, "--out", out)
    assert result.stdout.endswith(f"scores and overlays: {out}\n")
    assert (out / "scores.csv").read_text().count("\n") == 3
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["retina-000.png", "retina-001.png"]


def test_scores_are_told_though_they_cannot_be_written(store: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").mkdir()
    result = _evaluate(store, "--out", str(tmp_path))
    assert isinstance(result.exception, OSError)
    assert "expected IoU is off by" in result.stdout


def test_an_out_that_cannot_be_made_is_told_before_the_work(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = _evaluate(store, "--out", str(tmp_path / "file" / "out"))
    assert isinstance(result.exception, OSError)
    assert result.stdout == ""


@pytest.mark.parametrize(("out", "fault"), [("", "--out is empty"), ("file", "--out file is a file")])
def test_an_out_that_is_no_folder_is_refused(
    out: str, fault: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = _evaluate(store, "--out", out)
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception).startswith(fault)


def test_a_split_leaves_only_the_part_asked_for(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split = Split(train=("retina-000",), validation=(), test=("retina-001",), how="by hand")
    path.write_text(json.dumps(split.to_json()))
    assert _evaluate(store, "--split", path).stdout.splitlines()[1].startswith("retina-001")
    assert _evaluate(store, "--split", path, "--part", "train").stdout.splitlines()[1].startswith("retina-000")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--part", "train"), BadParameter),
        (("--split", "nowhere.json"), BadParameter),
        (("--version", "9"), UnknownModality),
    ],
    ids=["part without split", "no split", "no version"],
)
def test_a_wrong_call_is_an_error_of_ours(store: Path, arguments: tuple[str, ...], error: type[Exception]) -> None:
    assert isinstance(_evaluate(store, *arguments).exception, error)


def test_a_folder_that_is_not_there_is_named(store: Path, tmp_path: Path) -> None:
    result = _evaluate(store, data=str(tmp_path / "nowhere"))
    assert isinstance(result.exception, BadDataset)
    assert "nowhere" in str(result.exception)


def test_an_unknown_device_is_refused(store: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "drawn:retina:2", "--modality", "retina", "--device", "tpu"])
    assert result.exit_code == 2
    assert "tpu" in result.stderr

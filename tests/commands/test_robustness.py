"""alnet robustness: a line a change, a column a version, and the files."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.engine.choosing import EXACT, load_engine
from service.errors import BadParameter, UnknownModality
from service.training.changes import CHANGES
from service.training.evaluate import evaluate
from service.training.robustness import measure
from service.training.scores import mean_and_std
from tests.checkpoints import publish_tiny


def _robustness(store: Path, *arguments: str | Path, data: str = "drawn:retina:2") -> Result:
    options = ["--modality", "retina", "--store", str(store), "--device", "cpu"]
    return CliRunner().invoke(app, ["robustness", data, *options, *map(str, arguments)])


def _rows(table: str) -> dict[str, list[float]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {name: [float(value) for value in values] for name, *values in cells[2:]}


def test_it_prints_a_line_a_change_and_their_mean(store: Path) -> None:
    result = _robustness(store)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = _rows(result.stdout)
    assert list(rows) == [*CHANGES, "mean of all changes"]
    changed = [rows[name][0] for name in list(CHANGES)[1:]]
    assert rows["mean of all changes"][0] == pytest.approx(sum(changed) / len(changed), abs=1e-4)


def test_what_is_unchanged_has_the_iou_that_evaluate_finds(store: Path) -> None:
    options = ["--modality", "retina", "--store", str(store), "--device", "cpu"]
    evaluated = CliRunner().invoke(app, ["evaluate", "drawn:retina:2", *options]).stdout.splitlines()
    assert _rows(_robustness(store).stdout)["as it is"][0] == pytest.approx(float(evaluated[-3].split()[1]), abs=1e-4)


def test_masks_begin_at_the_threshold_of_the_card(tmp_path: Path) -> None:
    engine = load_engine(publish_tiny(tmp_path, threshold=0.9), EXACT)
    found = measure("drawn:retina:2", [engine])["as it is"][0]
    at_its_own, at_half = (
        mean_and_std(image.agreement.iou for image in evaluate("drawn:retina:2", engine, threshold=threshold))[0]
        for threshold in (0.9, 0.5)
    )
    assert found == at_its_own != at_half


def test_versions_stand_side_by_side_each_once_and_the_files_hold_the_same(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "deep" / "out"
    for number in (1, 2):
        publish_tiny(store, version=str(number))
    result = _robustness(store, "--version", "2", "--version", "1", "--version", "2", "--out", out)
    assert result.stdout.endswith(f"table and plot: {out}\n")
    assert all(first == second for first, second in _rows(result.stdout).values())
    assert (out / "robustness.md").read_text() in result.stdout
    found = json.loads((out / "robustness.json").read_text())
    assert list(found) == list(CHANGES)
    assert all(list(of_one) == ["retina 2", "retina 1"] for of_one in found.values())
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("--version", "9"), UnknownModality), (("--part", "test"), BadParameter)],
    ids=["no version", "part without split"],
)
def test_what_is_not_there_is_an_error_of_its_own(store: Path, arguments: tuple[str, ...], error: type) -> None:
    assert isinstance(_robustness(store, *arguments).exception, error)


@pytest.mark.parametrize(("name", "error"), [("", BadParameter), ("file", BadParameter), ("file/out", OSError)])
def test_an_out_that_is_no_folder_is_told_before_the_work(
    name: str, error: type, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = _robustness(store, "--out", name, data="no data")
    assert isinstance(result.exception, error), result.exception
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

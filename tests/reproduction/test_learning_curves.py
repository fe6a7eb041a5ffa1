from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from service.errors import BadConfig
from service.reproduction.learning_curves import draw_learning_curves, read_curves
from service.training.run_folder import EPOCHS, RunFolder
from service.training.state import EpochRecord, Progress


def run(path: Path) -> Path:
    """Make the folder of a run of three epochs, the second of which was not validated."""
    ious = (0.1, None, 0.3)
    history = [EpochRecord(epoch, 0.01, 1.0 - 0.1 * epoch, iou, iou, 2.0) for epoch, iou in enumerate(ious)]
    path.mkdir()
    RunFolder(path).write_epochs(Progress(history=history))
    return path


def test_curves_count_epochs_from_one_and_skip_what_was_not_validated(tmp_path: Path) -> None:
    curves = read_curves(run(tmp_path / "run"))
    assert curves.loss == [(1, 1.0), (2, 0.9), (3, 0.8)]
    assert curves.validation_iou == [(1, 0.1), (3, 0.3)]


def test_curves_of_older_runs_whose_epochs_were_written_from_zero_are_the_same(tmp_path: Path) -> None:
    path = run(tmp_path / "run")
    file, curves = path / EPOCHS, read_curves(path)
    head, *lines = file.read_text().splitlines()
    older = [f"{number},{line.partition(',')[2]}" for number, line in enumerate(lines)]
    file.write_text("\n".join([head, *older, ""]))
    assert read_curves(path) == curves


@pytest.mark.parametrize(
    "content",
    [b"epoch,loss\n1,0.5\n", b"epoch,loss,validation_iou\n1,much,0.5\n", b"\xff\xfe"],
)
def test_a_damaged_file_of_epochs_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (run(tmp_path / "run") / EPOCHS).write_bytes(content)
    with pytest.raises(BadConfig, match=r"run/epochs\.csv is damaged; remove result\.json there, and the run finishes"):
        read_curves(tmp_path / "run")


def test_all_runs_are_drawn_into_one_plot(tmp_path: Path) -> None:
    runs = {"al-net": [run(tmp_path / "fold-1"), run(tmp_path / "fold-2")], "cenet": [run(tmp_path / "cenet")]}
    draw_learning_curves(runs, tmp_path / "curves.png")
    with PillowImage.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1100, 400)


def test_each_run_has_a_line_for_its_loss_and_one_for_its_iou_and_each_network_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    runs = {"al-net": [run(tmp_path / "fold-1"), run(tmp_path / "fold-2")], "cenet": [run(tmp_path / "cenet")]}
    draw_learning_curves(runs, tmp_path / "curves.png")
    loss, iou = drawn[0].axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines] == [[1.0, 0.9, 0.8]] * 3
    assert [np.asarray(line.get_ydata()).tolist() for line in iou.lines] == [[0.1, 0.3]] * 3
    assert len({line.get_color() for line in loss.lines}) == 2
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["AL-Net", "CE-Net"]

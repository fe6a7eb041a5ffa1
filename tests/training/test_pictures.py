"""Pictures of a run show what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.engine.quality import Agreement, MaskRule
from service.imaging.encode import overlay
from service.imaging.policy import InputPolicy
from service.training.pictures import MISSED, RIGHT, WRONG, draw_curves, draw_expected, draw_samples, errors
from service.training.scores import ImageScore
from service.training.state import EpochRecord


def _red(tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [tile[..., 0] for tile in tiles]


def test_errors_are_told_by_colour() -> None:
    mask = np.array([[True, True, False, False]])
    reference = np.array([[1, 0, 1, 0]], np.uint8)
    shown = errors(np.full((1, 4, 3), 100, np.uint8), mask, reference)
    assert [tuple(pixel) for pixel in shown[0].tolist()] == [RIGHT, WRONG, MISSED, (60, 60, 60)]


def test_a_sample_stands_beside_its_reference_mask_and_errors(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    tall = np.zeros((1200, 30, 3), np.uint8)
    named = [("one", (image, np.ones((40, 30), np.uint8))), ("tall", (tall, np.zeros((1200, 30), np.uint8)))]
    draw_samples(
        named, _red, InputPolicy(kind="tile", height=64, width=64, overlap=8), tmp_path / "samples", MaskRule(0.5)
    )
    with PillowImage.open(tmp_path / "samples" / "one.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (40, 120, 3)
    assert np.array_equal(pixels[:, :30], image)
    assert np.array_equal(pixels[:, 30:60], overlay(image, np.ones((40, 30), np.uint8)))
    assert np.array_equal(pixels[:, 60:90], overlay(image, (image[..., 0] > 127).astype(np.uint8)))
    found = np.where((image[..., :1] > 127), RIGHT, MISSED)
    assert np.array_equal(pixels[:, 90:], found)
    with PillowImage.open(tmp_path / "samples" / "tall.png") as picture:
        assert picture.height == 512


def test_a_sample_that_is_all_but_a_line_is_drawn_too(tmp_path: Path) -> None:
    line = np.zeros((4100, 1, 3), np.uint8)
    policy = InputPolicy(kind="fit", height=64, width=64)
    draw_samples([("line", (line, line[..., 0]))], _red, policy, tmp_path, MaskRule(0.5))
    with PillowImage.open(tmp_path / "line.png") as picture:
        assert picture.size == (1, 512)


def test_a_single_epoch_is_a_dot_in_each_of_the_curves(tmp_path: Path) -> None:
    draw_curves([EpochRecord(0, 0.1, 1.0, 0.5, 0.9, 1.0)], tmp_path / "curves.png")
    with PillowImage.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 60
    assert [bool(part.any()) for part in np.array_split(coloured, 3, axis=1)] == [True, True, True]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, none of them as a picture."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_curves_count_epochs_from_one_and_leave_out_what_was_not_validated(drawn: list[Figure], tmp_path: Path) -> None:
    validated = (0.5, None, 0.7)
    draw_curves(
        [EpochRecord(n, 0.1 / (n + 1), 2.0 - n, iou, iou, 1.0) for n, iou in enumerate(validated)], tmp_path / "x"
    )
    points = [np.asarray(axes.lines[0].get_xydata()).tolist() for axes in drawn[0].axes]
    assert points[:2] == [[[1, 2.0], [2, 1.0], [3, 0.0]], [[1, 0.5], [3, 0.7]]]
    assert points[2] == [[1, 0.1], [2, 0.05], [3, 0.1 / 3]]


def test_the_expected_iou_stands_over_the_true_one(drawn: list[Figure], tmp_path: Path) -> None:
    one, other = Agreement(0.5, 0.9, 0.7), Agreement(0.8, 0.9, 0.9)
    draw_expected([ImageScore("one", one, 0.6), ImageScore("other", other, 0.5)], tmp_path / "x")
    (axes,) = drawn[0].axes
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == [[0.5, 0.6], [0.8, 0.5]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true IoU", "expected IoU")
    assert axes.get_title() == "2 test images, mean absolute error 0.200"


def test_curves_and_expected_iou_are_drawn_even_of_little(tmp_path: Path) -> None:
    draw_curves([EpochRecord(0, 0.1, 1.0, None, None, 1.0)], tmp_path / "curves.png")
    draw_expected([ImageScore("one", Agreement(0.5, 0.9, 0.7), 0.6)], tmp_path / "expected.png")
    for name in ("curves.png", "expected.png"):
        with PillowImage.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


def test_pictures_of_another_user_are_replaced_and_not_written_into(tmp_path: Path) -> None:
    one = [("one", (np.zeros((4, 3, 3), np.uint8), np.ones((4, 3), np.uint8)))]
    names = ("samples/one.png", "curves.png", "expected.png")
    (tmp_path / "samples").mkdir()
    before = {name: _begun(tmp_path / name) for name in names}
    draw_samples(one, _red, InputPolicy(kind="stretch", height=64, width=64), tmp_path / "samples", MaskRule(0.5))
    draw_curves([EpochRecord(0, 0.1, 1.0, 0.5, 0.9, 1.0)], tmp_path / "curves.png")
    draw_expected([ImageScore("one", Agreement(0.5, 0.9, 0.7), 0.6)], tmp_path / "expected.png")
    assert {name: (tmp_path / name).stat().st_ino for name in names}.items().isdisjoint(before.items())


def _begun(path: Path) -> int:
    path.write_bytes(b"of another user")
    path.with_name(f"{path.name} is kept").hardlink_to(path)  # so that its number is not given anew
    return path.stat().st_ino

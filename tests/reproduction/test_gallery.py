import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from service.engine.quality import agreement
from service.reproduction import gallery
from service.reproduction.gallery import DPI, PANEL_INCHES, TALLEST, Example, choose_examples, draw_gallery
from service.training.dataset import Dataset, open_dataset
from service.training.pictures import errors
from service.training.run_folder import CHECKPOINT, SPLIT
from service.training.split import Split
from tests.checkpoints import publish_tiny


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("drawn:skin:8")


def run(path: Path, tested: list[int]) -> Path:
    path.mkdir()
    names = tuple(f"skin-{index:03}" for index in tested)
    (path / SPLIT).write_text(json.dumps(Split(train=(), validation=(), test=names, how="by hand").to_json()))
    return path


def numbers(dataset: Dataset, runs: list[Path], count: int) -> list[tuple[int, int]]:
    return [(int(example.name[-3:]), example.run) for example in choose_examples(dataset, runs, count)]


def test_examples_lie_far_apart(tmp_path: Path, dataset: Dataset) -> None:
    assert numbers(dataset, [run(tmp_path / "run", list(range(8)))], 3) == [(0, 0), (2, 0), (4, 0)]


def test_folds_take_turns(tmp_path: Path, dataset: Dataset) -> None:
    runs = [run(tmp_path / "fold-1", [0, 1, 2]), run(tmp_path / "fold-2", [5])]
    assert numbers(dataset, runs, 3) == [(0, 0), (5, 1), (1, 0)]
    runs = [run(tmp_path / "small-1", [0]), run(tmp_path / "small-2", [5, 6])]
    assert numbers(dataset, runs, 3) == [(0, 0), (5, 1), (6, 1)]


def test_few_test_images_make_few_examples(tmp_path: Path, dataset: Dataset) -> None:
    examples = choose_examples(dataset, [run(tmp_path / "run", [3, 4])], 3)
    assert [example.name for example in examples] == ["skin-003", "skin-004"]
    assert all(example.image.shape[:2] == example.reference.shape for example in examples)


def test_each_example_is_marked_by_the_checkpoint_of_its_run_at_its_own_threshold(tmp_path: Path) -> None:
    folders = [tmp_path / "fold-1", tmp_path / "fold-2"]
    for folder, threshold in zip(folders, (0.01, 0.99), strict=True):  # all of a picture, and nothing of it
        publish_tiny(folder / CHECKPOINT, threshold=threshold)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    examples = [Example("", pixels, np.zeros((30, 40), np.uint8), run) for run in (0, 1, 0)]
    masks = list(gallery._masks(examples, folders))
    assert [(mask.shape, float(mask.mean())) for mask in masks] == [((30, 40), 1.0), ((30, 40), 0.0), ((30, 40), 1.0)]


def test_a_row_shows_image_reference_and_the_errors_of_each_networks_mask_with_its_iou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, shown = np.random.default_rng(0), []
    examples = [
        Example(name, random.integers(0, 256, (30, 40, 3), np.uint8), random.integers(0, 2, (30, 40), np.uint8), 0)
        for name in ("one", "other")
    ]
    found = {folder: [random.random((30, 40)) > 0.5 for _ in examples] for folder in (Path("a"), Path("b"))}
    monkeypatch.setattr(gallery, "_masks", lambda _, folders: iter(found[folders[0]]))
    monkeypatch.setattr(gallery, "_show", lambda _, pixels, note: shown.append((pixels.tobytes(), note)))
    draw_gallery(examples, {"al-net": [Path("a")], "cenet": [Path("b")]}, tmp_path / "pictures.png")
    for number, example in enumerate(examples):
        assert (example.image.tobytes(), example.name) in shown
        assert (np.repeat(255 * example.reference[..., None], 3, axis=2).tobytes(), "") in shown
        for masks in found.values():
            iou = agreement(masks[number], example.reference > 0).iou
            picture = errors(example.image, masks[number], example.reference)
            assert (picture.tobytes(), f"IoU {iou:.3f}") in shown
    assert len(shown) == 8


def test_a_strip_of_a_picture_makes_no_figure_as_high_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strip = np.zeros((6000, 1), np.uint8)
    monkeypatch.setattr(gallery, "_masks", lambda examples, _: [example.reference > 0 for example in examples])
    example = Example("strip", np.repeat(strip[..., None], 3, axis=2), strip, 0)
    draw_gallery([example] * 3, {"al-net": [Path("a")]}, tmp_path / "pictures.png")
    with PillowImage.open(tmp_path / "pictures.png") as picture:
        assert picture.height <= 3 * TALLEST * PANEL_INCHES * DPI + DPI


def test_each_column_is_the_network_above_it_and_the_legend_names_the_colours_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    black, reference = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), np.uint8)
    reference[:, :20] = 1
    left, top = reference > 0, np.zeros((30, 40), np.bool_)
    top[:15] = True
    figures: list[Figure] = []
    monkeypatch.setattr(gallery, "FigureCanvasAgg", figures.append)
    monkeypatch.setattr(gallery, "_masks", lambda _, folders: iter([left if folders == [Path("a")] else top]))
    runs = {"al-net": [Path("a")], "cenet": [Path("b")]}
    draw_gallery([Example("one", black, reference, 0)], runs, tmp_path / "pictures.png")

    (figure,) = figures
    axes = figure.axes
    assert [(ax.get_title(), ax.get_xlabel()) for ax in axes] == [
        ("image", "one"), ("reference", ""), ("AL-Net", "IoU 1.000"), ("CE-Net", "IoU 0.333"),
    ]  # fmt: skip
    pictures = [np.asarray(ax.images[0].get_array()) for ax in axes[2:]]
    for picture, mask in zip(pictures, (left, top), strict=True):
        assert np.array_equal(picture, errors(black, mask, reference))
    (legend,) = figure.legends
    named = {
        text.get_text(): np.rint(255 * np.array(patch.get_facecolor()[:3])).tolist()
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert named == {
        "foreground found": pictures[1][0, 0].tolist(),
        "foreground missed": pictures[1][29, 0].tolist(),
        "background taken for foreground": pictures[1][0, 39].tolist(),
    }

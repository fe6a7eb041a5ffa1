import json
from pathlib import Path

import pytest

from service.reproduction.gallery import choose_examples
from service.training.dataset import Dataset, open_dataset
from service.training.run_folder import SPLIT
from service.training.split import Split


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


def test_few_test_images_make_few_examples(tmp_path: Path, dataset: Dataset) -> None:
    examples = choose_examples(dataset, [run(tmp_path / "run", [3, 4])], 3)
    assert [example.name for example in examples] == ["skin-003", "skin-004"]
    assert all(example.image.shape[:2] == example.reference.shape for example in examples)

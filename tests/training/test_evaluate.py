"""Scoring a published checkpoint on images with masks."""

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine.choosing import EXACT, load_engine
from service.engine.engine import Engine
from service.engine.quality import Agreement, MaskRule
from service.errors import BadDataset, BadParameter
from service.store.card import Data, IouEstimate
from service.training.dataset import load, open_dataset
from service.training.evaluate import COLUMNS, evaluate, table
from service.training.robustness import measure, write_robustness
from service.training.scores import ImageScore, mean_and_std, score
from service.training.split import Split
from service.training.split_file import SplitFile
from tests.cards import make_card
from tests.checkpoints import publish_tiny
from tests.training.folders import images_and_masks, mask, picture, write
from tests.training.full_disk import no_file_above

DATA = "drawn:retina:3"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(publish_tiny(tmp_path_factory.mktemp("store")), EXACT)


def _split(path: Path, *, data_digest: str = "x", **parts: tuple[str, ...]) -> Path:
    whole = {"train": (), "validation": (), "test": ()} | parts
    path.write_text(json.dumps({"data_digest": data_digest, **Split(**whole, how="by hand").to_json()}))
    return path


def _data(**changes: object) -> Data:
    """Return what a card says of the data at DATA."""
    return make_card().data.model_copy(update={"digest": open_dataset(DATA).digest, "n_validation": 0, **changes})


def test_scores_are_those_of_the_engine_on_each_image(engine: Engine) -> None:
    scores = evaluate(DATA, engine)
    pairs = open_dataset(DATA).pairs
    policy, rule = engine.card.input, MaskRule.of(engine.card)
    assert scores == score([(pair.name, load(pair)) for pair in pairs], engine.predict, policy, rule)


def test_a_checkpoints_rule_is_followed_unless_every_component_is_asked_for(tmp_path: Path) -> None:
    folder = images_and_masks(tmp_path / "data", ["a", "b"], size=(64, 64))
    specks = publish_tiny(tmp_path / "store", threshold=142.5 / 255, least_component=1.0)
    strict = load_engine(specks, EXACT)
    named = [(pair.name, load(pair)) for pair in open_dataset(str(folder)).pairs]
    rules = MaskRule(strict.card.threshold, 1.0), MaskRule(strict.card.threshold)
    main, every = (score(named, strict.predict, strict.card.input, rule) for rule in rules)
    assert evaluate(str(folder), strict) == main != every
    assert evaluate(str(folder), strict, all_components=True) == every


def test_the_iou_to_expect_is_what_the_card_makes_of_an_answer(tmp_path: Path) -> None:
    certain = IouEstimate(offset=-4, plain=0, decided=0)  # whatever the answer
    engine = load_engine(publish_tiny(tmp_path, expected_iou=certain), EXACT)
    assert [found.expected_iou for found in evaluate(DATA, engine)] == pytest.approx([1 / (1 + math.exp(4))] * 3)


def test_another_threshold_gives_other_masks(engine: Engine) -> None:
    whole = evaluate(DATA, engine, threshold=0.0)
    for found, pair in zip(whole, open_dataset(DATA).pairs, strict=True):
        assert found.agreement.iou == pytest.approx(load(pair)[1].mean())


def test_a_split_leaves_only_its_part(engine: Engine, tmp_path: Path) -> None:
    path = _split(tmp_path / "split.json", test=("retina-002",), train=("retina-000", "retina-001"))
    assert [found.name for found in evaluate(DATA, engine, split=path)] == ["retina-002"]
    assert [found.name for found in evaluate(DATA, engine, split=path, part="train")] == ["retina-000", "retina-001"]
    with pytest.raises(BadParameter, match="no validation images"):
        evaluate(DATA, engine, split=path, part="validation")
    with pytest.raises(BadParameter, match="there are train, validation, test"):
        evaluate(DATA, engine, split=path, part="unused")


def test_a_part_without_a_split_is_refused(engine: Engine) -> None:
    with pytest.raises(BadParameter, match="--split"):
        evaluate(DATA, engine, part="test")


def test_an_image_of_the_split_that_is_not_there_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="retina-007"):
        evaluate(DATA, engine, split=_split(tmp_path / "split.json", test=("retina-007",)))


def test_a_split_is_of_its_images_not_of_others_of_the_same_names(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(images_and_masks(tmp_path / "data", ["a", "b"], size=(40, 40)))
    path = tmp_path / "split.json"
    parts = Split(train=("b",), validation=(), test=("a",), how="by hand")
    path.write_bytes(SplitFile.of(parts, dataset, {}, "").to_bytes())
    write(tmp_path / "data" / "masks" / "a.png", mask(7, height=40, width=40))  # by another observer
    assert len(evaluate(str(tmp_path / "data"), engine, split=path)) == 1
    assert capsys.readouterr().err == ""
    write(tmp_path / "data" / "images" / "a.png", picture(7, height=40, width=40))
    with pytest.raises(BadDataset, match=r"a is not the image that .*split\.json speaks of"):
        evaluate(str(tmp_path / "data"), engine, split=path)


def test_an_older_split_of_other_data_is_scored_with_a_caution(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for digest, caution in ((open_dataset(DATA).digest, False), ("x", True)):
        path = _split(tmp_path / "split.json", data_digest=digest, test=("retina-001",))
        assert len(evaluate(DATA, engine, split=path)) == 1
        assert (f"caution: {path} is of other data" in capsys.readouterr().err) == caution


@pytest.mark.parametrize(
    "command", [evaluate, lambda data, engine: measure(data, [engine])], ids=["evaluate", "robustness"]
)
def test_images_that_the_checkpoint_was_trained_on_are_scored_with_a_caution(
    command: Callable[[str, Engine], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _data(name="drawn:retina", split="by hand", n_train=1, n_test=1)
    engine = load_engine(publish_tiny(tmp_path / "store", data=data), EXACT)
    command(DATA, engine)
    assert "caution: the checkpoint was trained on these very images; with --split" in capsys.readouterr().err
    command("drawn:retina:2", engine)  # which are called as the checkpoint's own
    assert "caution: images that the checkpoint was trained on may be among these" in capsys.readouterr().err
    command("drawn:skin:2", engine)
    path = _split(tmp_path / "split.json", data_digest=data.digest, train=("retina-000",), test=("retina-001",))
    evaluate(DATA, engine, split=path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("other", [{"split": "seed 5"}, {"n_train": 2}], ids=["another seed", "other fractions"])
def test_a_split_that_is_not_the_checkpoints_own_is_scored_with_a_caution(
    other: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _data(**({"split": "by hand", "n_train": 1, "n_test": 1} | other))
    engine = load_engine(publish_tiny(tmp_path / "store", data=data), EXACT)
    path = _split(tmp_path / "split.json", data_digest=data.digest, train=("retina-000",), test=("retina-001",))
    evaluate(DATA, engine, split=path)
    assert f"caution: {path} is not how the checkpoint's own data were split" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '"text"', "3"])
def test_what_is_no_split_is_refused_by_name(engine: Engine, tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(BadParameter, match=r"no split\.json of a run"):
        evaluate(DATA, engine, split=path)


def test_a_split_in_a_pipe_which_can_be_read_but_once_is_refused(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "split.json")
    with pytest.raises(BadParameter, match=r"no split\.json of a run .*no regular file"):
        evaluate(DATA, engine, split=tmp_path / "split.json")


def test_csv_and_table_agree_with_the_scores(engine: Engine, tmp_path: Path) -> None:
    scores = evaluate(DATA, engine, out=tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == COLUMNS
    assert [row[0] for row in rows] == ["retina-000", "retina-001", "retina-002"]
    assert [float(row[1]) for row in rows] == [found.agreement.iou for found in scores]
    assert [float(row[2]) for row in rows] == [found.agreement.accuracy for found in scores]
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {f"{row[0]}.png" for row in rows}

    lines = [line.split() for line in table(scores).splitlines()]
    assert lines[0] == list(COLUMNS)
    assert lines[1] == ["retina-000", *(f"{float(value):.4f}" for value in rows[0][1:])]
    mean, std = mean_and_std(found.agreement.iou for found in scores)
    assert [lines[-2][:2], lines[-1][:2]] == [["mean", f"{mean:.4f}"], ["std", f"{std:.4f}"]]
    assert np.isfinite([float(value) for value in lines[-1][1:]]).all()


def test_a_full_disk_is_told_with_the_folder_on_it(engine: Engine, tmp_path: Path) -> None:
    with no_file_above(10), pytest.raises(OSError, match=f"too large: '{tmp_path / 'out'}'"):
        evaluate(DATA, engine, out=tmp_path / "out")
    with no_file_above(10), pytest.raises(OSError, match=f"too large: '{tmp_path / 'changes'}'"):
        write_robustness({"as it is": [0.5], "grey": [0.4]}, ["retina 1"], tmp_path / "changes")


def test_a_name_that_does_not_print_is_told_on_one_line_without_what_a_terminal_obeys() -> None:
    same = Agreement(iou=1.0, accuracy=1.0, dice=1.0)
    head, one, *_ = table([ImageScore("a\n\x1b[31mb", same, 1.0)]).splitlines()
    assert one.split() == [r"a\n\x1b[31mb", *["1.0000"] * 4]
    assert len(one) == len(head)

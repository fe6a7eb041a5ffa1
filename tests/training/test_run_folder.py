"""What a run folder records, refuses and forgives."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.training.code_version import code_commit
from service.training.config import Config, configure
from service.training.dataset import Dataset, open_dataset
from service.training.origins import Origin
from service.training.run_folder import CONFIG, EPOCHS, RESULT, SPLIT, Result, RunFolder
from service.training.split import Split
from service.training.state import STATE, EpochRecord, Progress
from tests.cards import make_card
from tests.training.folders import images_and_masks

A, B, C = "skin-000", "skin-001", "skin-002"
ONE = Split(train=(A, B), validation=(C,), test=(), how="by hand")
OTHER = Split(train=(A,), validation=(B,), test=(C,), how="by hand")
ORIGIN = Origin.of(make_card())
RESULT_OF_A_RUN = Result(
    best_epoch=3,
    validation_iou=0.61,
    test_iou_mean=0.6,
    test_iou_std=0.05,
    test_accuracy_mean=0.9,
    test_accuracy_std=0.01,
    test_images=6,
    temperature=1.2,
    checkpoint="store/retina/1",
    threshold=0.45,
    calibration_error=0.01,
    expected_iou_error=0.03,
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("drawn:skin:3")


def _config(**changes: object) -> Config:
    return configure("somewhere", "retina", "quick", changes)


def _begun(path: Path, dataset: Dataset, split: Split = ONE) -> RunFolder:
    """Return the folder of a run that has finished an epoch."""
    folder = RunFolder(path)
    folder.begin(_config(), split, dataset, {"train": ("seen",)}, (ORIGIN,))
    (path / STATE).touch()
    return folder


def test_the_same_configuration_goes_on_with_the_split_it_began_with(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    folder.check(_config())
    assert folder.split(dataset, lambda: OTHER) == ONE


def test_another_configuration_is_refused_with_the_field_that_differs(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    with pytest.raises(BadConfig, match=r"--learning-rate was 0\.003 and is now 0\.1") as refused:
        folder.check(_config(learning_rate=0.1))
    assert "--run" in str(refused.value)
    with pytest.raises(BadConfig, match="--input was 'fit:605x700:trim' and is now 'fit:64x64'"):
        folder.check(_config(input=InputPolicy(kind="fit", height=64, width=64)))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"crop_px": None}, "--crop was 256 and is now 0"),
        ({"network": {"encoder": "resnet34"}}, "--network-option was not given and is now encoder=resnet34"),
        ({"network": {"widths": [16, 32], "a": 1}}, "--network-option was not given and is now widths=16,32 a=1"),
        ({"case_pattern": "(p)"}, "--case-pattern was not given and is now '(p)'"),
        ({"imitates": "lite2.pth"}, "--weights was not given and is now 'lite2.pth'"),
    ],
)
def test_what_differs_is_told_as_it_is_given(
    changes: dict[str, object], difference: str, tmp_path: Path, dataset: Dataset
) -> None:
    folder = _begun(tmp_path, dataset)
    with pytest.raises(BadConfig, match=re.escape(f"({difference});")):
        folder.check(_config().model_copy(update=changes))


def test_a_finished_run_tells_its_own_configuration_alone_though_its_state_is_gone(
    tmp_path: Path, dataset: Dataset
) -> None:
    folder = _begun(tmp_path, dataset)
    folder.write_result(RESULT_OF_A_RUN)
    (tmp_path / STATE).unlink()
    folder.check(_config())
    with pytest.raises(BadConfig, match="--seed was 0 and is now 9"):
        folder.check(_config(seed=9))


@pytest.mark.parametrize("lost", [CONFIG, SPLIT])
def test_a_run_that_lost_what_tells_whose_it_is_does_not_go_on(lost: str, tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    content = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    advice = f"has lost {lost}, .*; bring it back, and the run goes on, or start anew in another folder with --run$"
    with pytest.raises(BadConfig, match=advice):
        folder.check(_config())
    (tmp_path / lost).write_bytes(content)
    folder.check(_config())
    (tmp_path / lost).unlink()
    (tmp_path / STATE).unlink()
    folder.check(_config())


def test_the_result_of_a_run_is_told_though_its_split_is_lost(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    folder.write_result(RESULT_OF_A_RUN)
    (tmp_path / SPLIT).unlink()
    folder.check(_config())


def test_a_run_goes_on_with_what_its_machine_bears_now(tmp_path: Path, dataset: Dataset) -> None:
    _begun(tmp_path, dataset).check(_config().model_copy(update={"workers": 3, "cache_gib": 0.5}))


def test_where_a_folder_lies_is_no_difference_but_a_drawing_is(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    folder.check(_config().model_copy(update={"data": "somewhere/"}))
    folder.check(_config().model_copy(update={"data": "/moved/to/somewhere"}))
    with pytest.raises(BadConfig, match="--data was 'somewhere' and is now 'drawn:skin:3'"):
        folder.check(_config().model_copy(update={"data": "drawn:skin:3"}))


def test_a_run_that_never_finished_an_epoch_may_be_started_otherwise(tmp_path: Path, dataset: Dataset) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(_config(batch_size=4096), ONE, open_dataset("drawn:cell:3"), {})
    folder.check(_config())
    assert folder.split(dataset, lambda: OTHER) == OTHER
    folder.begin(_config(), OTHER, dataset, {})
    assert Config.model_validate_json((tmp_path / CONFIG).read_bytes()) == _config()


@pytest.mark.parametrize(
    "name", [CONFIG, SPLIT, EPOCHS, "checkpoint/mine.pt", "samples/1.png", "tensorboard/events", "best.safetensors"]
)
def test_what_lies_there_and_is_no_runs_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"train": ["a"], "model": "of others"}')
    with pytest.raises(BadConfig, match=rf"{Path(name).parts[0]} is of no run .* another folder with --run, or move"):
        RunFolder(tmp_path).check(_config())


def test_what_a_run_left_that_never_finished_an_epoch_is_its_own(tmp_path: Path, dataset: Dataset) -> None:
    for name in ("checkpoint", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "1.png").touch()
    RunFolder(tmp_path).check(_config())
    RunFolder(tmp_path).begin(_config(), ONE, dataset, {})
    for lost in ("none", CONFIG):  # the split is written first
        (tmp_path / lost).unlink(missing_ok=True)
        (tmp_path / "checkpoint" / "retina").mkdir(exist_ok=True)
        RunFolder(tmp_path).check(_config())


def test_a_run_does_not_begin_among_the_images_unless_a_table_names_them(tmp_path: Path) -> None:
    data = images_and_masks(tmp_path, ["a", "b", "c"])
    dataset = open_dataset(data)
    RunFolder(data).check_apart(str(data), dataset)
    for run in (data / "images", data / "masks" / ".." / "masks"):
        with pytest.raises(BadConfig, match=r"is where images of the data lie.* pick another folder with --run"):
            RunFolder(run).check_apart(str(data), dataset)
    (data / "pairs.csv").touch()
    RunFolder(data / "images").check_apart(str(data), dataset)


def test_nothing_is_written_before_the_run_begins(tmp_path: Path, dataset: Dataset) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.check(_config())
    folder.split(dataset, lambda: ONE)
    assert folder.result() is None
    assert not folder.path.exists()


def test_data_that_changed_since_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    with pytest.raises(BadConfig, match="the data changed since"):
        folder.split(open_dataset("drawn:skin:4"), lambda: ONE)


def test_a_pair_that_was_renamed_or_has_another_mask_is_refused(tmp_path: Path) -> None:
    data = images_and_masks(tmp_path / "data", ["a", "b", "c", "d"])
    dataset = open_dataset(data)
    folder = _begun(tmp_path / "run", dataset, Split(train=("a", "b"), validation=("c", "d"), test=(), how="by hand"))
    assert folder.split(dataset, lambda: OTHER).train == ("a", "b")
    one, other = data / "masks" / "a.png", data / "masks" / "b.png"
    swapped = [other.read_bytes(), one.read_bytes()]
    for path, content in zip((one, other), swapped, strict=True):
        path.write_bytes(content)
    assert open_dataset(data).digest == dataset.digest
    with pytest.raises(BadConfig, match="which mask belongs to which, changed since"):
        folder.split(open_dataset(data), lambda: OTHER)
    for path, content in zip((other, one), swapped, strict=True):
        path.write_bytes(content)
    for kind in ("images", "masks"):
        (data / kind / "d.png").rename(data / kind / "e.png")
    with pytest.raises(BadConfig, match="names of images"):
        folder.split(open_dataset(data), lambda: OTHER)


def test_an_older_run_goes_on_and_records_then_what_it_could_not(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    recorded = json.loads((tmp_path / SPLIT).read_bytes())
    for newer in ("images", "pairs_digest", "inherited"):
        del recorded[newer]
    (tmp_path / SPLIT).write_text(json.dumps(recorded))
    assert folder.split(dataset, lambda: OTHER) == ONE
    folder.begin(_config(), ONE, dataset, {"train": ("not its own",)})
    assert folder.recorded_split().images == dataset.images
    assert folder.recorded_split().inherited == {}
    renamed = replace(ONE, train=(A, "renamed"))
    (tmp_path / SPLIT).write_text(json.dumps(recorded | renamed.to_json()))
    with pytest.raises(BadConfig, match="names of images"):
        folder.split(dataset, lambda: OTHER)


def test_what_a_run_inherited_is_kept_when_it_goes_on(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    folder.begin(_config(), ONE, dataset, {})
    assert folder.recorded_split().inherited == {"train": ("seen",)}
    assert folder.recorded_split().begun_with == (ORIGIN,)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"data_digest": "x"}'])
def test_damaged_files_are_named(tmp_path: Path, dataset: Dataset, content: str) -> None:
    folder = _begun(tmp_path, dataset)
    for name in (CONFIG, SPLIT, RESULT):
        (tmp_path / name).write_text(content)
    with pytest.raises(BadConfig, match=CONFIG):
        folder.check(_config())
    with pytest.raises(BadConfig, match=SPLIT):
        folder.split(dataset, lambda: ONE)
    with pytest.raises(BadConfig, match=RESULT):
        folder.result()


def test_epochs_are_a_line_each_counted_from_one_and_empty_where_not_validated(tmp_path: Path) -> None:
    history = [EpochRecord(0, 0.1, 1.5, None, None, 2.0), EpochRecord(1, 0.05, 1.25, 0.5, 0.75, 2.5)]
    RunFolder(tmp_path).write_epochs(Progress(history))
    assert (tmp_path / EPOCHS).read_text().splitlines() == [
        "epoch,learning_rate,loss,validation_iou,validation_accuracy,seconds",
        "1,0.1,1.5,,,2.0",
        "2,0.05,1.25,0.5,0.75,2.5",
    ]


def test_a_result_is_read_back_and_told_in_a_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(RESULT_OF_A_RUN)
    assert folder.result() == RESULT_OF_A_RUN
    assert RESULT_OF_A_RUN.summary == (
        "best epoch 3, validation IoU 0.6100; test IoU 0.6000 ± 0.0500, accuracy 0.9000 ± 0.0100 (6 images)"
    )
    assert replace(RESULT_OF_A_RUN, test_images=1).summary.endswith("(1 image)")


def test_a_result_from_before_the_threshold_was_chosen_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(RESULT_OF_A_RUN)
    recorded = json.loads((tmp_path / RESULT).read_bytes())
    for field in ("threshold", "calibration_error", "expected_iou_error"):
        del recorded[field]
    (tmp_path / RESULT).write_text(json.dumps(recorded))
    assert folder.result() == replace(RESULT_OF_A_RUN, threshold=0.5, calibration_error=None, expected_iou_error=None)


def test_a_run_that_goes_on_names_the_commit_that_it_began_with(tmp_path: Path, dataset: Dataset) -> None:
    folder = _begun(tmp_path, dataset)
    recorded = json.loads((tmp_path / SPLIT).read_bytes())
    (tmp_path / SPLIT).write_text(json.dumps(recorded | {"code_commit": "of old"}))
    assert folder.commit == "of old"
    folder.begin(_config(), ONE, dataset, {})
    assert folder.recorded_split().code_commit == "of old"
    (tmp_path / STATE).unlink()
    assert folder.commit == code_commit()


def test_a_run_goes_on_in_the_arithmetic_that_it_began_with(tmp_path: Path, dataset: Dataset) -> None:
    folder = RunFolder(tmp_path)
    assert folder.settle(_config(), lambda: "bfloat16") == _config(precision="bfloat16")
    assert folder.settle(_config(precision="float32"), lambda: "bfloat16") == _config(precision="float32")
    _begun(tmp_path, dataset)
    for recorded in ("bfloat16", "auto"):  # the latter in runs from before it was settled
        (tmp_path / CONFIG).write_text(_config(precision=recorded).model_dump_json())
        assert folder.settle(_config(), lambda: "float32") == _config(precision=recorded)
        folder.check(_config())
        with pytest.raises(BadConfig, match=f"--precision was '{recorded}' and is now 'float32'"):
            folder.check(_config(precision="float32"))


def test_the_arithmetic_of_a_run_that_never_finished_an_epoch_or_lost_its_configuration_binds_nobody(
    tmp_path: Path, dataset: Dataset
) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(_config(precision="float32"), ONE, dataset, {})
    assert folder.settle(_config(), lambda: "bfloat16") == _config(precision="bfloat16")
    _begun(tmp_path, dataset)
    (tmp_path / CONFIG).unlink()
    assert folder.settle(_config(), lambda: "bfloat16") == _config(precision="bfloat16")

"""The whole job: resumed as if nothing had happened, finished once, and sound on awkward data."""

import errno
import json
import math
import shutil
import signal
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from service.engine.choosing import EXACT, load_engine
from service.errors import BadCheckpoint, BadConfig, BadDataset
from service.imaging.policy import InputPolicy
from service.network.repvgg import repvgg_encoder
from service.store.checkpoint import Checkpoint
from service.store.model_store import ModelStore
from service.training.config import Config, configure, file_identity
from service.training.dataset import open_dataset
from service.training.evaluate import evaluate
from service.training.job import run as run_job
from service.training.parts import read_parts
from service.training.processes import fastest_precision
from service.training.repvgg_weights import _official_name
from service.training.run_folder import CONFIG, SPLIT, RunFolder
from service.training.scores import expected_iou_error, mean_and_std
from service.training.split import Split
from service.training.state import BEST, STATE
from tests.training.alnet_train import Run, train, train_until
from tests.training.folders import mask, picture, write
from tests.training.full_disk import no_file_above


def _config(data: str | Path, **changes: object) -> Config:
    quick = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "precision": "float32"}
    return configure(str(data), "own", "quick", quick | changes)


def _folder(path: Path, count: int, *, empty: Collection[int] = ()) -> Path:
    for index in range(count):
        image = picture(index, height=40, width=50)
        inside = (image[..., 0] > 127) & (index not in empty)
        write(path / "images" / f"{index}.png", image)
        write(path / "masks" / f"{index}.png", np.where(inside, 255, 0).astype(np.uint8))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_interrupted_and_killed_ends_with_the_numbers_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: Run
) -> None:
    disturbed = Run(tmp_path)
    code, complaint = train_until(disturbed, "epoch 1/4", signal.SIGINT)
    assert (code, complaint) == (130, "alnet: interrupted; the same command goes on after the last finished epoch\n")
    code, _ = train_until(disturbed, "epoch 2/4", signal.SIGKILL)  # said when the third begins
    assert code == -signal.SIGKILL
    assert len(disturbed.epochs()) == 2
    assert not disturbed.store.exists()

    done = train(disturbed)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch")] == ["3/4", "4/4"]
    assert disturbed.epochs() == undisturbed.epochs()
    assert len(undisturbed.epochs()) == 4
    of_its_time: Any = {"created": True, "training": {"duration_s", "commit"}}
    assert disturbed.card().model_dump(exclude=of_its_time) == undisturbed.card().model_dump(exclude=of_its_time)


def test_a_run_leaves_what_a_person_wants_to_look_at(undisturbed: Run) -> None:
    names = {path.relative_to(undisturbed.path).as_posix() for path in undisturbed.path.rglob("*.*")}
    assert {"config.json", "split.json", "epochs.csv", "curves.png", "expected_iou.png", "result.json"} <= names
    split = json.loads((undisturbed.path / SPLIT).read_bytes())
    assert {f"samples/{name}.png" for name in split["test"]} <= names
    assert not [name for name in names if "draft" in name]


def test_the_card_tells_the_truth_about_the_run(undisturbed: Run) -> None:
    card = undisturbed.card()
    assert 3_445_000 <= card.parameters <= 3_455_000
    assert card.parameters < card.parameters_in_training
    assert (card.modality, card.version, card.label, card.data.name) == ("retina", "1", "vessel", "drawn:retina")
    assert (card.data.n_train, card.data.n_validation, card.data.n_test) == (4, 2, 2)
    assert card.test is not None
    assert card.test.n == 2
    best = max(undisturbed.epochs(), key=lambda row: float(row["validation_iou"]))
    assert card.training.best_epoch == int(best["epoch"])
    assert (card.training.epochs, card.training.config["crop_px"], card.input.kind) == (4, 64, "fit")


def test_the_card_tells_how_the_network_was_calibrated(undisturbed: Run) -> None:
    card, result = undisturbed.card(), RunFolder(undisturbed.path).result()
    assert card.test is not None
    assert card.test.calibration_error is not None
    assert card.expected_iou is not None
    assert result is not None
    assert (result.temperature, result.threshold) == (card.temperature, card.threshold)
    assert result.calibration_error == card.test.calibration_error.after
    assert result.expected_iou_error == card.test.expected_iou_error


def test_the_published_engine_scores_test_images_as_the_card_says(undisturbed: Run) -> None:
    card, split_file = undisturbed.card(), undisturbed.path / SPLIT
    engine = load_engine(ModelStore(undisturbed.store).newest("retina"), EXACT)
    scores = evaluate("drawn:retina:8", engine, split=split_file)
    assert card.test is not None
    assert mean_and_std(score.agreement.iou for score in scores)[0] == pytest.approx(card.test.iou_mean, abs=1e-3)
    assert expected_iou_error(scores) == pytest.approx(card.test.expected_iou_error, abs=1e-3)


def test_a_finished_run_is_neither_trained_nor_published_again(undisturbed: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("*") if path.is_file()}
    config = _config_of(undisturbed)
    said: list[str] = []
    result = run_job(config, undisturbed.path, undisturbed.store, said.append)
    assert result is not None
    assert result.checkpoint == str(undisturbed.store / "retina" / "1")
    assert said[0] == f"{undisturbed.path} is finished already; pick another folder with --run to train anew"
    assert said[1:] == (
        [] if result.caution is None else [f"caution: {result.caution}"]
    )  # of so few steps little comes
    assert {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("*") if path.is_file()} == before


def test_a_folder_of_another_run_is_refused_with_the_field_that_differs(undisturbed: Run) -> None:
    config = _config_of(undisturbed).model_copy(update={"batch_size": 3})
    with pytest.raises(BadConfig, match="--batch-size was 2 and is now 3"):
        run_job(config, undisturbed.path, undisturbed.store, print)


def test_awkward_data_is_trained_on_and_published(tmp_path: Path) -> None:
    """One validation image, two masks without foreground, images smaller than the grid, a crop larger than it."""
    data = _folder(tmp_path / "data", 4, empty=(1, 3))  # image 0 validates, image 1 tests
    grid = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    config = _config(data, input=grid, crop_px=128)
    result = run_job(config, tmp_path / "run", tmp_path / "store", print)
    assert result is not None
    card = Checkpoint.read(Path(result.checkpoint)).card
    assert (card.data.n_validation, card.label) == (1, "foreground")
    assert math.isfinite(result.validation_iou)

    for lost_when_killed_after_the_last_epoch in ("result.json", "epochs.csv"):
        (tmp_path / "run" / lost_when_killed_after_the_last_epoch).unlink()
    assert run_job(config, tmp_path / "run", tmp_path / "store", print) == result
    assert ModelStore(tmp_path / "store").published("own") == ["1"]
    assert (tmp_path / "run" / "epochs.csv").read_text().count("\n") == 2

    (data / "images" / "0.png").write_bytes((data / "images" / "1.png").read_bytes())
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(BadConfig, match="the data changed since"):
        run_job(config, tmp_path / "run", tmp_path / "store", print)


def test_the_card_names_the_arithmetic_that_was_the_fastest(tmp_path: Path) -> None:
    grid = InputPolicy(kind="stretch", height=32, width=32)
    small = {"blocks": [1] * 5, "widths": [8] * 5}
    config = _config(_folder(tmp_path / "data", 3), input=grid, crop_px=None, network=small, precision="auto")
    result = run_job(config, tmp_path / "run", None, print)
    assert result is not None
    recorded = RunFolder(tmp_path / "run").recorded_config().precision
    assert recorded == fastest_precision()
    assert Checkpoint.read(Path(result.checkpoint)).card.training.config["precision"] == recorded
    assert run_job(config, tmp_path / "run", None, print) == result


@pytest.mark.parametrize(("level", "missing"), [(0, "foreground"), (255, "background")])
def test_masks_that_are_all_empty_or_all_full_are_refused(level: int, missing: str, tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 6)
    config = _config(data, fractions=(0.6, 0.4, 0))
    split = read_parts(config, RunFolder(tmp_path / "run"), print).split
    for name in split.train:
        write(data / "masks" / f"{name}.png", np.full((40, 50), level, np.uint8))
    with pytest.raises(
        BadDataset, match=f"no mask of the {len(split.train)} training images in data has any {missing}"
    ):
        run_job(config, tmp_path / "run", None, print)
    assert not (tmp_path / "run").exists()
    assert read_parts(config, RunFolder(tmp_path / "run"), print, needs_masks=False).split == split


def test_validation_images_of_which_no_mask_has_foreground_are_refused(tmp_path: Path) -> None:
    """The epoch that marks nothing would be the best, with an IoU of 1."""
    data = _folder(tmp_path / "data", 8)
    config = _config(data, fractions=(0.5, 0.25, 0.25))
    split = read_parts(config, RunFolder(tmp_path / "run"), print).split
    for name in (*split.validation, *split.test):
        write(data / "masks" / f"{name}.png", np.zeros((40, 50), np.uint8))
    with pytest.raises(BadDataset, match=r"no mask of the 2 validation images in data has any foreground.* --seed"):
        run_job(config, tmp_path / "run", None, print)
    for name in split.validation:
        write(data / "masks" / f"{name}.png", mask(1, height=40, width=50))
    said: list[str] = []
    read_parts(config, RunFolder(tmp_path / "run"), said.append)
    assert said[0].startswith("caution: no mask of the 2 test images has any foreground")


@pytest.mark.parametrize(
    ("fractions", "tests_are_empty", "judge"),
    [((0.5, 0.25, 0.25), False, "test"), ((0.5, 0.25, 0.25), True, "validation"), ((0.6, 0.4, 0), False, "validation")],
)
def test_a_network_that_finds_nothing_is_published_with_a_caution_each_time_the_command_is_given(
    fractions: tuple[float, float, float], *, tests_are_empty: bool, judge: str, tmp_path: Path
) -> None:
    data = _folder(tmp_path / "data", 8)
    for path in (data / "masks").iterdir():
        speck = np.zeros((40, 50), np.uint8)
        speck[20, 20] = 255
        write(path, speck)
    config = _config(data, input=InputPolicy(kind="stretch", height=32, width=32), fractions=fractions, crop_px=None)
    if tests_are_empty:
        for name in read_parts(config, RunFolder(tmp_path / "run"), print).split.test:
            write(data / "masks" / f"{name}.png", np.zeros((40, 50), np.uint8))
    for store in (None, tmp_path / "store"):
        said: list[str] = []
        result = run_job(config, tmp_path / "run", store, said.append)
        assert result is not None
        cautions = [line for line in said if line.startswith("caution: this network is hardly better than one that")]
        assert len(cautions) == 1
        assert f"{judge} images" in cautions[0]
        assert "more --epochs" in cautions[0]
    assert ModelStore(tmp_path / "store").published("own") == ["1"]


def test_without_test_images_and_without_a_store_the_checkpoint_stays_in_the_run(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4)
    result = run_job(config, tmp_path / "run", None, print)
    assert result is not None
    assert result.checkpoint == str(tmp_path / "run" / "checkpoint" / "own" / "1")
    assert result.summary.endswith("no test images")
    assert Checkpoint.read(Path(result.checkpoint)).card.test is None


def test_what_a_finished_run_kept_to_itself_is_published_once_a_store_is_given(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4)
    kept = run_job(config, tmp_path / "run", None, print)
    assert kept is not None
    said: list[str] = []
    for _ in range(2):
        result = run_job(config, tmp_path / "run", tmp_path / "store", said.append)
        assert result == replace(kept, checkpoint=str(tmp_path / "store" / "own" / "1"))
    told = [line.split()[0] for line in said if not line.startswith("caution")]
    assert told == [str(tmp_path / "run"), "published", str(tmp_path / "run")]
    for name in ("other", "store", "other"):
        result = run_job(config, tmp_path / "run", tmp_path / name, said.append)
        assert result == replace(kept, checkpoint=str(tmp_path / name / "own" / "1"))
        assert RunFolder(tmp_path / "run").result() == result
        assert ModelStore(tmp_path / name).published("own") == ["1"]
    assert said.count(f"published {tmp_path / 'other' / 'own' / '1'}") == 1
    published, proven = (Checkpoint.read(path) for path in (tmp_path / "store/own/1", Path(kept.checkpoint)))
    assert (published.card, published.read_weights()) == (proven.card, proven.read_weights())


def test_the_command_of_a_finished_run_publishes_into_a_store_that_has_lost_or_never_had_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        result = run_job(config, tmp_path / "run", Path("store"), print)
        assert result is not None
        assert Path(result.checkpoint) == tmp_path / name / "store" / "own" / "1"
    shutil.rmtree("store")
    assert run_job(config, tmp_path / "run", Path("store"), print) == result
    assert ModelStore(Path("store")).published("own") == ["1"]


def test_a_finished_run_is_known_by_its_data_wherever_they_lie(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    options = {"input": grid, "crop_px": None, "fractions": (0.6, 0.4, 0), "learning_rate": 1e-4}
    result = run_job(_config(data, **options), tmp_path / "run", None, print)
    data.rename(tmp_path / "moved")
    assert run_job(_config(tmp_path / "moved", **options), tmp_path / "run", None, print) == result
    other = _folder(tmp_path / "other", 4)
    with pytest.raises(BadConfig, match="the data changed since"):
        run_job(_config(other, **options), tmp_path / "run", None, print)


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, steps_per_epoch=3, fractions=(0.6, 0.4, 0), learning_rate=1e30, crop_px=None)
    with pytest.raises(BadConfig, match="smaller --learning-rate"):
        run_job(config, tmp_path / "run", None, print)
    assert not (tmp_path / "run" / STATE).exists()


def test_a_full_disk_ends_the_run_with_advice_and_the_same_command_goes_on(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, epochs=2, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4)

    with ExitStack() as full:

        def say(line: str) -> None:
            if line.startswith("epoch 1"):
                full.enter_context(no_file_above(1_000_000))

        with pytest.raises(OSError, match="too large: make room there, and the same command goes on") as failed:
            run_job(config, tmp_path / "run", tmp_path / "store", say)
    assert Path(failed.value.filename).parent == tmp_path / "run"
    said: list[str] = []
    assert run_job(config, tmp_path / "run", tmp_path / "store", said.append) is not None
    assert [line.split("  ")[0] for line in said if line.startswith("epoch")] == ["epoch 2/2"]


def test_a_disk_that_is_full_of_pictures_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries that draw do not say of which file it is that there is no room."""

    def draw(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.training.job.draw_curves", draw)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(_folder(tmp_path / "data", 3), input=grid, epochs=1, crop_px=None, fractions=(0.6, 0.4, 0))
    with pytest.raises(OSError, match=f"make room there, .*: '{tmp_path / 'run'}'"):
        run_job(config, tmp_path / "run", None, print)


def test_data_that_change_under_a_run_stop_it_and_it_goes_on_once_they_are_back(tmp_path: Path) -> None:
    data, run = _folder(tmp_path / "data", 6), tmp_path / "run"
    image = data / "images" / "0.png"
    before = image.read_bytes()
    config = _config(data, input=InputPolicy(kind="stretch", height=32, width=32), epochs=3, crop_px=None, cache_gib=0)

    def say(line: str) -> None:
        if line.startswith("epoch 1"):
            image.touch()  # the same content
        if line.startswith("epoch 2"):
            write(image, picture(99, height=40, width=50))

    with pytest.raises(
        BadConfig, match=r"the data \(.*/0\.png\) changed since .*; bring back what was there, and the run goes on"
    ):
        run_job(config, run, None, say)
    assert (run / "epochs.csv").read_text().count("\n") == 3  # none of the third epoch

    image.write_bytes(before)
    said: list[str] = []
    assert run_job(config, run, None, said.append) is not None
    assert [line.split()[1] for line in said if line.startswith("epoch")] == ["3/3"]


def test_masks_may_be_mended_while_a_run_that_has_read_them_learns(tmp_path: Path) -> None:
    data, run = _folder(tmp_path / "data", 6), tmp_path / "run"
    digest = open_dataset(data).digest

    def say(line: str) -> None:
        if line.startswith("epoch 1"):
            for number in range(6):
                write(data / "masks" / f"{number}.png", mask(9, height=40, width=50))

    config = _config(data, input=InputPolicy(kind="stretch", height=32, width=32), epochs=2, crop_px=None)
    result = run_job(config, run, None, say)
    assert result is not None
    assert Checkpoint.read(Path(result.checkpoint)).card.data.digest == digest


def test_masks_that_change_between_their_check_and_their_reading_are_refused_though_they_are_kept_then(
    tmp_path: Path,
) -> None:
    data = _folder(tmp_path / "data", 6)

    def say(line: str) -> None:
        if line.startswith("data: "):  # once they are checked and split
            for number in range(6):
                write(data / "masks" / f"{number}.png", mask(9, height=40, width=50))

    config = _config(data, input=InputPolicy(kind="stretch", height=32, width=32), crop_px=None)
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        run_job(config, tmp_path / "run", None, say)


def test_data_that_change_before_the_test_scores_are_published_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _folder(tmp_path / "data", 6)
    config = _config(data, input=InputPolicy(kind="stretch", height=32, width=32), crop_px=None, cache_gib=0)
    monkeypatch.setattr(  # what comes after the test
        "service.training.job.draw_expected", lambda *_: write(data / "masks" / "0.png", mask(9, height=40, width=50))
    )
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        run_job(config, tmp_path / "run", tmp_path / "store", print)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_published_into_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadCheckpoint, match="cannot be listed"):
        run_job(_config("no data"), tmp_path / "run", tmp_path / "file", print)
    (tmp_path / "store" / "own").mkdir(parents=True)
    for refused, store in (("store/own", "store"), ("store", "store/to/be/made")):
        monkeypatch.setattr(  # root may write everywhere
            "os.access", lambda path, _, refused=refused: Path(path) != tmp_path / refused
        )
        with pytest.raises(OSError, match="--no-publish for now; nothing was trained") as failed:
            run_job(_config("no data"), tmp_path / "run", tmp_path / store, print)
        assert Path(failed.value.filename) == tmp_path / refused
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("inside", ["checkpoint", "checkpoint/models"])
def test_a_store_that_the_run_itself_would_clear_is_refused(inside: str, tmp_path: Path) -> None:
    (tmp_path / "run" / inside / "other" / "1").mkdir(parents=True)
    config = _config("no data")
    RunFolder(tmp_path / "run").begin(
        config, Split(train=(), validation=(), test=(), how="by hand"), open_dataset("drawn:cell:1"), {}
    )
    with pytest.raises(BadConfig, match="give another --store, or --no-publish to leave the checkpoint there"):
        run_job(config, tmp_path / "run", tmp_path / "run" / inside, print)
    assert (tmp_path / "run" / inside / "other" / "1").is_dir()


def test_a_store_that_fails_at_the_end_is_published_into_later_without_training_anew(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    config = _config(data, input=grid, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4)

    def say(line: str) -> None:
        if line.startswith("epoch 1"):
            (tmp_path / "store").symlink_to("nowhere")  # neither to be written nor to be made

    with pytest.raises(OSError, match="the same command publishes without training anew"):
        run_job(config, tmp_path / "run", tmp_path / "store", say)
    (tmp_path / "store").unlink()
    said: list[str] = []
    assert run_job(config, tmp_path / "run", tmp_path / "store", said.append) is not None
    assert not [line for line in said if line.startswith("epoch")]


def test_other_networks_are_trained_and_published_with_their_options(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    grid = InputPolicy(kind="stretch", height=32, width=32)
    small = {"blocks": [1, 1, 1, 1, 1], "widths": [8, 8, 8, 8, 8], "decoder": "u"}
    config = _config(data, input=grid, crop_px=None, fractions=(0.6, 0.4, 0), learning_rate=1e-4, network=small)
    result = run_job(config, tmp_path / "run", None, print)
    assert result is not None
    card = Checkpoint.read(Path(result.checkpoint)).card
    assert card.architecture_config == {"fusion_stride": 2, **small}
    assert card.parameters < 100_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "segnet"}, "no architecture 'segnet'"),
        ({"network": {"encoder": "vgg"}}, "repvgg-a1 or resnet34 or .*, not 'vgg'"),
        ({"architecture": "cenet", "network": {"colour": 3}}, "cenet does not take"),
        ({"encoder_weights": "a.pth sha256:0"}, "--encoder-weights"),
        ({"batch_size": 1, "crop_px": 32}, "--batch-size 2"),
    ],
    ids=["architecture", "value", "option", "no encoder file", "one pixel"],
)
def test_a_network_that_cannot_be_built_is_refused_before_the_data_are_read(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        run_job(_config(tmp_path / "no data", **changes), tmp_path / "run", None, print)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("prepare_fitting", "smaller --batch-size"),
        *((part, "the same command goes on") for part in ("calibrate", "draw_samples", "prove_and_publish")),
    ],
)
def test_memory_that_is_short_before_or_after_the_epochs_is_told_with_advice(
    part: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test is in float32, which may need twice what validation did."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 4.00 GiB.")

    config = _config(
        _folder(tmp_path / "data", 3),
        input=InputPolicy(kind="stretch", height=32, width=32),
        network={"blocks": [1] * 5, "widths": [8] * 5},
        crop_px=None,
        fractions=(0.6, 0.4, 0),
    )
    with monkeypatch.context() as short:
        short.setattr(f"service.training.job.{part}", fail)
        with pytest.raises(BadConfig, match=f"out of memory on .*{advice}"):
            run_job(config, tmp_path / "run", None, print)
    assert run_job(config, tmp_path / "run", None, print) is not None


def test_an_encoder_from_a_file_is_taken_by_a_run_that_starts_anew_alone(tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", 3)
    file = tmp_path / "repvgg.safetensors"
    encoder = repvgg_encoder([1] * 5, [8] * 5)
    save_file({_official_name(name): tensor for name, tensor in encoder.state_dict().items()}, file)
    config = _config(
        data,
        input=InputPolicy(kind="stretch", height=32, width=32),
        network={"blocks": [1] * 5, "widths": [8] * 5},
        encoder_weights=file_identity(file),
        crop_px=None,
        fractions=(0.6, 0.4, 0),
        learning_rate=1e-9,
    )
    said: list[str] = []
    assert run_job(config, tmp_path / "run", None, said.append, encoder_weights=file) is not None
    assert said[0].startswith("encoder weights from repvgg.safetensors")
    name = "stages.4.0.conv3x3.weight"
    kept = load_file(tmp_path / "run" / BEST)[f"encoder.{name}"]
    assert float((kept - encoder.state_dict()[name]).abs().max()) < 1e-6

    (tmp_path / "run" / "result.json").unlink()
    file.unlink()
    assert run_job(config, tmp_path / "run", None, said.append) is not None  # goes on from its own state


def _config_of(run: Run) -> Config:
    """Return the configuration that the run was made with."""
    return Config.model_validate_json((run.path / CONFIG).read_bytes())

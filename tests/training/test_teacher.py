"""Distillation: what the teacher says, what the student makes of it, and which teacher would be cheating."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from service.engine.choosing import EXACT, load_engine
from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.store.checkpoint import CARD, WEIGHTS
from service.store.model_store import ModelStore
from service.training.config import Config, configure, file_identity
from service.training.dataset import check, open_dataset
from service.training.job import run as run_job
from service.training.leak import caution_of_unknown, check_encoder_unseen, check_unseen, inherited, seen_by
from service.training.run_folder import CONFIG, RESULT, SPLIT, RunFolder
from service.training.split import Split
from service.training.state import BEST
from service.training.teacher import Teacher, teacher_identity
from tests.training.folders import mask, picture, write
from tests.training.tiny_fit import Fit, Network
from tests.training.tiny_fit import config as tiny_config

CPU = torch.device("cpu")
GRID = InputPolicy(kind="stretch", height=32, width=32)
SMALL = {"blocks": [1] * 5, "widths": [8] * 5}
IMAGES = check(open_dataset("drawn:retina:9"), progress=False).contents


def _config(**changes: object) -> Config:
    quick = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "precision": "float32", "crop_px": None}
    return configure("drawn:retina:9", "retina", "quick", {**quick, "input": GRID, "network": SMALL, **changes})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    assert run_job(_config(), path, None, print) is not None
    return path


def _split(run: Path) -> Split:
    return RunFolder(run).recorded_split().split


def test_it_answers_as_its_checkpoint_is_served(teacher: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = Teacher.of(teacher, _config(), CPU, "float32")(_pixels(tile))
    served = load_engine(ModelStore(teacher / "checkpoint").newest("retina"), EXACT).predict([tile])[0]
    assert found.shape == (1, 1, 32, 32)
    assert not found.requires_grad
    assert float((found[0, 0] * 255 - torch.from_numpy(served)).abs().max()) <= 0.51


def test_a_run_is_taught_says_so_and_its_card_names_the_teacher(teacher: Path, tmp_path: Path) -> None:
    name = teacher_identity(teacher, "retina")
    assert name.startswith("run sha256:")
    said: list[str] = []
    config = _config(teacher=name, teaching=0.25)
    result = run_job(config, tmp_path / "student", None, said.append, teacher=teacher)
    assert result is not None
    assert f"taught by {name}, 25% of the loss" in said
    card = ModelStore(tmp_path / "student" / "checkpoint").newest("retina").card
    assert card.training.config["teacher"] == name
    alone = tmp_path / "alone"
    assert run_job(_config(), alone, None, print) is not None
    assert _differ(load_file(tmp_path / "student" / BEST), load_file(alone / BEST))


def test_a_run_that_wants_a_teacher_is_refused_without_one(teacher: Path, tmp_path: Path) -> None:
    config = _config(teacher=teacher_identity(teacher, "retina"))
    with pytest.raises(BadConfig, match="--teacher"):
        run_job(config, tmp_path / "student", None, print)


@pytest.mark.parametrize("coarse", [0, 3])
def test_a_student_learns_what_its_teacher_says_not_what_the_masks_say(coarse: int, tmp_path: Path) -> None:
    """With all weight on a teacher that sees foreground everywhere, so does the student; masks have half."""
    config = tiny_config(teaching=1.0, epochs=6, coarse_epochs=coarse, learning_rate=0.05)
    fitting, _ = Fit(config, tmp_path, Network(dropout=0), Everywhere()).run()
    network = fitting.network.eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 32, 32))
    assert float((logits > 0).float().mean()) > 0.95


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_loss_is_the_weighted_mean_of_both(weight: float, tmp_path: Path) -> None:

    def loss(name: str, teaching: float) -> float:
        config = tiny_config(teaching=teaching, epochs=1, steps_per_epoch=1)
        (tmp_path / name).mkdir()
        _, progress = Fit(config, tmp_path / name, Network(dropout=0), Everywhere()).run()
        return progress.history[0].loss

    of_masks, of_teacher, mixed = loss("masks", 0.0), loss("teacher", 1.0), loss("mixed", weight)
    assert of_masks != pytest.approx(of_teacher, rel=0.01)
    assert mixed == pytest.approx((1 - weight) * of_masks + weight * of_teacher, rel=1e-5)


def test_a_teacher_that_has_seen_what_judges_the_student_is_refused(teacher: Path) -> None:
    split = _split(teacher)
    taught, chose = split.train[0], split.validation[0]
    for mixed, message in (
        (replace(split, test=(*split.test, taught)), f"knows {taught}, which this run tests"),
        (replace(split, test=(*split.test, chose)), f"knows {chose}, which this run tests"),
        (replace(split, validation=(*split.validation, taught)), f"knows {taught}, which this run validates with"),
    ):
        with pytest.raises(BadConfig, match=message):
            check_unseen(teacher, _config(), mixed, IMAGES, "the teacher")


def test_an_encoder_that_has_seen_what_judges_its_heir_is_refused(teacher: Path, tmp_path: Path) -> None:
    weights = teacher / BEST
    config = _config(encoder_weights=file_identity(weights), seed=1)  # of another split
    with pytest.raises(BadConfig, match=r"the encoder in .* knows .*, which this run (tests|validates with)"):
        run_job(config, tmp_path / "heir", None, print, encoder_weights=weights)
    assert not (tmp_path / "heir").exists()
    same = _config(encoder_weights=file_identity(weights))
    assert run_job(same, tmp_path / "heir", None, print, encoder_weights=weights) is not None


def test_images_are_told_apart_by_their_content(teacher: Path) -> None:
    """The same names of other images are no leak, and the same image under another name, or modality, is one."""
    config, split = _config(), _split(teacher)
    mixed = replace(split, test=(*split.test, split.train[0]))
    others = check(open_dataset("drawn:skin:9"), progress=False).contents
    check_unseen(teacher, config, mixed, dict(zip(IMAGES, others.values(), strict=True)), "the teacher")
    renamed = replace(split, test=("another name",))
    for modality in ("retina", "skin"):
        with pytest.raises(BadConfig, match="knows another name, which this run tests"):
            check_encoder_unseen(
                teacher / BEST,
                config.model_copy(update={"modality": modality}),
                renamed,
                {"another name": IMAGES[split.train[0]]},
            )


def test_of_an_older_run_names_tell_images_apart_within_a_modality(teacher: Path, tmp_path: Path) -> None:
    config, split = _config(), _split(teacher)
    mixed = replace(split, test=(*split.test, split.train[0]))
    recorded = json.loads((teacher / SPLIT).read_bytes())
    for newer in ("images", "pixels", "pairs_digest", "inherited"):
        del recorded[newer]
    (tmp_path / SPLIT).write_text(json.dumps(recorded))
    (tmp_path / CONFIG).write_bytes((teacher / CONFIG).read_bytes())
    check_encoder_unseen(tmp_path / BEST, config.model_copy(update={"modality": "skin"}), mixed, IMAGES)
    with pytest.raises(BadConfig, match="knows"):
        check_encoder_unseen(tmp_path / BEST, config, mixed, IMAGES)


@pytest.mark.parametrize(
    ("recorded", "shown", "is_known"),
    [("both", "both", True), ("files", "both", True), ("files", "pixels", False), ("both", "pixels", True)],
)
def test_an_image_is_known_by_its_file_and_by_its_pixels(
    recorded: str, shown: str, is_known: bool, teacher: Path, tmp_path: Path
) -> None:
    """A run from before pixels were recorded knows its files alone; of one saved anew only the pixels are the same."""
    config, split = _config(), _split(teacher)
    content = json.loads((teacher / SPLIT).read_bytes())
    pixels = content["pixels"] if recorded == "both" else content.pop("pixels")
    (tmp_path / SPLIT).write_text(json.dumps(content))
    (tmp_path / CONFIG).write_bytes((teacher / CONFIG).read_bytes())
    name = split.train[0]
    images = {"again": {pixels[name]} if shown == "pixels" else IMAGES[name]}
    with pytest.raises(BadConfig, match="knows again") if is_known else nullcontext():
        check_unseen(tmp_path, config, replace(split, test=("again",)), images, "the teacher")


def test_the_same_pixels_in_another_format_are_the_same_image(tmp_path: Path) -> None:
    pixels = picture(5, height=40, width=30)
    for name, suffix, image in (("a", "png", pixels), ("b", "bmp", pixels), ("c", "png", pixels.reshape(30, 40, 3))):
        write(tmp_path / "images" / f"{name}.{suffix}", image)
        write(tmp_path / "masks" / f"{name}.png", mask(1, height=image.shape[0], width=image.shape[1]))
    found = check(open_dataset(tmp_path), progress=False).contents
    assert len(found["a"] & found["b"]) == 1
    assert not found["a"] & found["c"]


def test_an_encoder_behind_a_link_is_that_of_its_run(teacher: Path, tmp_path: Path) -> None:
    link = tmp_path / "encoder.safetensors"
    link.symlink_to(teacher / BEST)
    split = _split(teacher)
    with pytest.raises(BadConfig, match=r"the encoder in .* knows"):
        check_encoder_unseen(link, _config(), replace(split, test=split.train), IMAGES)
    assert inherited("retina", [link], teacher=None) == seen_by(teacher, "retina")


def test_a_run_whose_teacher_knows_its_test_images_is_refused_before_it_begins(teacher: Path, tmp_path: Path) -> None:
    config = _config(teacher=teacher_identity(teacher, "retina"), seed=1)  # of another split
    with pytest.raises(BadConfig, match=r"the teacher in .* knows .*, which this run (tests|validates with)"):
        run_job(config, tmp_path / "student", None, print, teacher=teacher)
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("by", ["encoder", "teacher"])
def test_what_a_run_began_with_or_was_taught_by_counts_as_its_own(by: str, teacher: Path, tmp_path: Path) -> None:
    """A run on other data passes on what the first one knew."""
    identity = file_identity(teacher / BEST) if by == "encoder" else teacher_identity(teacher, "retina")
    between = _config(data="drawn:skin:9", **{"encoder_weights" if by == "encoder" else "teacher": identity})
    first: dict[str, Any] = {"encoder_weights": teacher / BEST} if by == "encoder" else {"teacher": teacher}
    assert run_job(between, tmp_path / "between", None, print, **first) is not None
    passed_on = tmp_path / "between" / BEST
    last = _config(encoder_weights=file_identity(passed_on), seed=1)  # of another split than the first one's
    with pytest.raises(BadConfig, match=r"the encoder in .*between knows retina-"):
        run_job(last, tmp_path / "last", None, print, encoder_weights=passed_on)
    same = _config(encoder_weights=file_identity(passed_on))
    assert run_job(same, tmp_path / "same", None, print, encoder_weights=passed_on) is not None


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_outside_of_a_run_folder_is_taken_on_trust_which_is_said_once(
    whole: bool, teacher: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "encoder.safetensors"
    copy.write_bytes((teacher / BEST).read_bytes())
    split = _split(teacher)
    check_encoder_unseen(copy, _config(), replace(split, test=split.train), IMAGES)
    config, said = _config(encoder_weights=file_identity(copy), fine_tune=whole, seed=1), list[str]()
    for _ in range(2):  # the second time the run is there, and needs the file no more
        run_job(config, tmp_path / "run", None, said.append, encoder_weights=copy)
        (tmp_path / "run" / RESULT).unlink()
    cautions = [line for line in said if line.startswith("caution: nothing beside")]
    assert len(cautions) == 1
    assert f"nothing beside {copy} tells which images have taught it" in cautions[0]
    assert "in its run folder, or a published one in its folder, with its card" in cautions[0]


def test_of_a_file_that_shows_what_has_taught_it_or_that_others_trained_nothing_is_said(
    teacher: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.safetensors"
    save_file({"stage0.weight": torch.zeros(1)}, theirs)
    published = teacher / "checkpoint" / "retina" / "1" / WEIGHTS
    lone = tmp_path / "card" / WEIGHTS
    shutil.copytree(published.parent, lone.parent)
    assert [caution_of_unknown(file) for file in (theirs, teacher / BEST, published, lone)] == [None] * 4
    (lone.parent / CARD).unlink()
    assert caution_of_unknown(lone) is not None


def test_a_teacher_of_another_grid_is_refused_before_the_data_are_read(teacher: Path, tmp_path: Path) -> None:
    grid = InputPolicy(kind="stretch", height=64, width=64)
    config, said = _config(input=grid, teacher=teacher_identity(teacher, "retina")), list[str]()
    with pytest.raises(BadConfig, match=r"the teacher in .* sees stretch:32x32, this run stretch:64x64$"):
        run_job(config, tmp_path / "run", None, said.append, teacher=teacher)
    assert (said, list(tmp_path.iterdir())) == ([], [])


def test_what_is_no_finished_run_of_the_modality_is_no_teacher(teacher: Path, tmp_path: Path) -> None:
    for folder, modality in ((tmp_path, "retina"), (tmp_path / "none", "retina"), (teacher, "skin")):
        with pytest.raises(BadConfig, match=f"is no teacher: it holds no finished run of {modality}"):
            teacher_identity(folder, modality)


class Everywhere(Teacher):
    """A teacher who says foreground, whatever is shown."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, pixels: Tensor) -> Tensor:
        assert pixels.shape[-2:] == (32, 32), "a teacher sees the whole resolution"
        return torch.ones_like(pixels[:, :1], dtype=torch.float32)


def _pixels(tile: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(tile).permute(2, 0, 1)[None]


def _differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)

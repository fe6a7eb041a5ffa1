"""Which images each step of the job gets: those of its part in split.json, and no others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.imaging.placement import Image, Mask
from service.imaging.policy import InputPolicy
from service.store.checkpoint import Checkpoint
from service.store.model_store import ModelStore
from service.training.cache import PairCache
from service.training.config import Config, configure
from service.training.dataset import Pair, load, open_dataset
from service.training.initial import build_network
from service.training.job import Job
from service.training.job import run as run_job
from service.training.parts import Parts, read_parts, study
from service.training.processes import make_fabric
from service.training.run_folder import RunFolder

DATA = "drawn:retina:9"
GRID = InputPolicy(kind="stretch", height=32, width=32)


class Watched(PairCache):
    """A part whose every image that is looked at is written down, in the order of all parts together."""

    def __init__(self, pairs: list[Pair], looked_at: list[str]) -> None:
        super().__init__(pairs, 1 << 30)
        self._names, self._looked_at = [pair.name for pair in pairs], looked_at

    def __call__(self, index: int) -> tuple[Image, Mask]:
        self._looked_at.append(self._names[index])
        return super().__call__(index)


def _config(**changes: object) -> Config:
    network = {"blocks": [1] * 5, "widths": [8] * 5}
    quick = {"epochs": 1, "steps_per_epoch": 40, "batch_size": 2, "precision": "float32", "crop_px": None}
    return configure(DATA, "retina", "quick", {**quick, "input": GRID, "network": network, **changes})


def _watched(folder: RunFolder, config: Config) -> tuple[Parts, list[str]]:
    parts = read_parts(config, folder, print)
    pairs, looked_at = {pair.name: pair for pair in parts.dataset.pairs}, list[str]()
    train, validation, test = (
        Watched([pairs[name] for name in names], looked_at)
        for names in (parts.split.train, parts.split.validation, parts.split.test)
    )
    return Parts(parts.dataset, parts.split, train, validation, test), looked_at


def test_training_validation_calibration_and_the_test_look_each_at_their_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.training.fit.scoring_precision", lambda _device: "bfloat16")
    config, folder = _config(), RunFolder(tmp_path / "run")
    parts, looked_at = _watched(folder, config)
    folder.begin(config, parts.split, parts.dataset, {})
    split = folder.recorded_split().split
    fabric = make_fabric(config)
    job = Job(config, folder, parts, study(parts.train, config.input), fabric.device, print)

    looked_at.clear()
    progress = job.train(fabric, build_network(config))
    steps, validation = looked_at[:80], looked_at[80:]
    assert set(steps) == set(split.train)
    assert validation == list(split.validation)

    looked_at.clear()
    trained, predictor = job.finish(progress)
    assert {parameter.dtype for parameter in predictor.parameters()} == {torch.float32}
    before_the_test, rest = _until(looked_at, split.test[0])
    assert before_the_test == 2 * list(split.validation)  # temperature, threshold
    assert set(rest) == set(split.test)

    looked_at.clear()
    job.draw(predictor, trained.rule)
    job.publish(trained, None, progress)
    assert set(looked_at) == set(split.test)


def test_what_images_look_like_is_learnt_from_training_images(tmp_path: Path) -> None:
    run_job(_config(steps_per_epoch=1), tmp_path / "run", None, print)
    card = _card(tmp_path / "run").card
    pairs = {pair.name: pair for pair in open_dataset(DATA).pairs}
    taught = [load(pairs[name])[0] for name in RunFolder(tmp_path / "run").recorded_split().split.train]
    pixels = np.concatenate([image.reshape(-1, 3) for image in taught]) / 255
    assert card.normalisation.mean == pytest.approx(pixels.mean(0), abs=1e-5)
    assert card.normalisation.std == pytest.approx(pixels.std(0), abs=1e-5)


def _until(looked_at: list[str], name: str) -> tuple[list[str], list[str]]:
    at = looked_at.index(name)
    return looked_at[:at], looked_at[at:]


def _card(run: Path) -> Checkpoint:
    return ModelStore(run / "checkpoint").newest("retina")

"""The training job: dataset folder in, published checkpoint out. Here, and only here, its parts are joined."""

import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from service.engine.torch_engine import Predictor
from service.imaging.placement import Image, Mask
from service.imaging.statistics import Likeness, features
from service.network import build
from service.store.card import Data, Normalisation, Scores
from service.training.augment import TrainingItems
from service.training.cache import PairCache
from service.training.calibrate import fit_temperature, sample_logits
from service.training.config import Config
from service.training.dataset import Dataset, check, open_dataset
from service.training.fit import best_predictor, fit, load_best, make_fabric, prepare_fitting
from service.training.pictures import draw_curves, draw_expected, draw_samples
from service.training.publication import Trained, describe, prove_and_publish
from service.training.run_folder import Result, RunFolder
from service.training.scores import ImageScore, Predict, mean_and_std, score
from service.training.split import Split, split
from service.training.state import Progress

GIB = 1 << 30
THRESHOLD = 0.5
SAMPLES = 6

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The dataset's three parts, each decoded once as far as the cache reaches."""

    dataset: Dataset
    split: Split
    train: PairCache
    validation: PairCache
    test: PairCache


def run(config: Config, path: Path, store: Path | None, say: Say) -> Result | None:
    """Train as `config` says in the run folder `path`, going on where it was interrupted; publish into `store`.

    Without a `store` the checkpoint stays in the run folder. A finished run is not run again: its result is returned.
    Of several processes only that of rank 0 writes, speaks and publishes; the others return None.

    Raises:
        BadConfig: `path` holds another run, or its state does not fit.
        BadDataset: a file of the dataset cannot be used; the message names it.
        BadCheckpoint: the checkpoint, loaded back, does not score as the network did.
    """
    folder = RunFolder(path)
    folder.check(config)
    if (result := folder.result()) is not None:
        say(f"{path} is finished already; pick another folder with --run to train anew")
        return result
    fabric = make_fabric(config)
    parts = read_parts(config, folder, say if fabric.is_global_zero else lambda _: None)
    if fabric.is_global_zero:
        folder.begin(config, parts.split, parts.dataset.digest)
    normalisation, likeness = study(parts.train)
    job = Job(config, folder, parts, normalisation, likeness, fabric.device, say)
    progress = job.train(fabric)
    if not fabric.is_global_zero:
        return None
    trained, predictor = job.finish(progress)
    job.draw(predictor)
    result = job.publish(trained, store, progress)
    folder.write_result(result)  # at once: a run that is killed before it is finished publishes again
    return result


def read_parts(config: Config, folder: RunFolder, say: Say) -> Parts:
    """Open and check the dataset; split it, or take the split that the run began with."""
    dataset = open_dataset(config.data, series=config.series)
    check(dataset, progress=sys.stderr.isatty())
    chosen = folder.split(
        dataset,
        lambda: split(dataset, fractions=config.fractions, seed=config.seed, case_pattern=config.case_pattern),
    )
    sizes = f"{len(chosen.train)} train, {len(chosen.validation)} validation, {len(chosen.test)} test"
    say(f"{dataset.name}: {sizes}{f', {len(chosen.unused)} unused' if chosen.unused else ''}")
    pairs = {pair.name: pair for pair in dataset.pairs}

    def cache(names: Sequence[str]) -> PairCache:
        return PairCache([pairs[name] for name in names], config.cache_gib * GIB * len(names) / len(pairs))

    return Parts(dataset, chosen, cache(chosen.train), cache(chosen.validation), cache(chosen.test))


def study(images: PairCache) -> tuple[Normalisation, Likeness]:
    """Return mean and spread of the training images' channels, and what they look like."""
    sums, squares, pixels, rows = np.zeros(3), np.zeros(3), 0, []
    for _, (image, _) in shown(images, "studying"):
        values = image.reshape(-1, 3) / 255.0
        sums, squares, pixels = sums + values.sum(0), squares + np.square(values).sum(0), pixels + len(values)
        rows.append(features(image))
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - np.square(mean), 1e-4))
    return Normalisation(mean=_rgb(mean), std=_rgb(std)), Likeness.fit(np.stack(rows))


@dataclass(frozen=True, slots=True)
class Job:
    """One run, its data read: what remains is to train, to take the best network's measure, and to publish it."""

    config: Config
    folder: RunFolder
    parts: Parts
    normalisation: Normalisation
    likeness: Likeness
    device: torch.device
    say: Say

    def train(self, fabric: Fabric) -> Progress:
        """Run the epochs that are still to run, with a line and fresh curves for each."""
        items = TrainingItems(self.parts.train, len(self.parts.train), self.config)
        fitting = prepare_fitting(self.config, fabric, self._build(), items, self.normalisation)
        return fit(fitting, self.folder.path, self.normalisation, self._validate, self._report)

    def finish(self, progress: Progress) -> tuple[Trained, Predictor]:
        """Take the best epoch's network, calibrate it on validation images, and score it once on test images."""
        self._record(progress)  # again: a run killed right after its last state lacks that epoch's line
        network = load_best(self.folder.path, self._build())
        raw = best_predictor(network, self.normalisation, self.device)
        pairs = (pair for _, pair in shown(self.parts.validation, "calibrating"))
        temperature = fit_temperature(*sample_logits(pairs, raw, self.config.input, self.config.seed))
        predictor = best_predictor(network, self.normalisation, self.device, temperature=temperature)
        scores = self._test(predictor.predict)
        if scores:
            draw_expected(scores, self.folder.path / "expected_iou.png")
        trained = Trained(
            config=self.config,
            network=network,
            architecture_config=self._architecture_config(),
            normalisation=self.normalisation,
            likeness=self.likeness,
            temperature=temperature,
            threshold=THRESHOLD,
            data=_data(self.parts),
            commit=self.folder.commit,
            best_epoch=progress.best_epoch,
            seconds=progress.seconds,
            device=_device_name(self.device),
            test=_test_scores(self.parts, scores, self.likeness) if scores else None,
        )
        return trained, predictor

    def publish(self, trained: Trained, store: Path | None, progress: Progress) -> Result:
        """Publish what was trained, and say what came of the run."""
        card, weights = describe(trained)
        published = prove_and_publish(card, weights, store, self.folder.path, self._test)
        self.say(f"published {published}" if store else f"checkpoint in {published}")
        test = trained.test
        return Result(
            best_epoch=progress.best_epoch + 1,
            validation_iou=progress.best_iou,
            test_iou_mean=test.iou_mean if test else None,
            test_iou_std=test.iou_std if test else None,
            test_accuracy_mean=test.accuracy_mean if test else None,
            test_accuracy_std=test.accuracy_std if test else None,
            test_images=test.n if test else 0,
            temperature=trained.temperature,
            checkpoint=str(published),
        )

    def draw(self, predictor: Predictor) -> None:
        """Draw a few test images (validation images if there are none) with reference, mask and errors."""
        source = self.parts.test if len(self.parts.test) else self.parts.validation
        named = itertools.islice(source.named(), SAMPLES)
        draw_samples(named, predictor.predict, self.config.input, self.folder.path / "samples", THRESHOLD)

    def _build(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return build(self.config.architecture, **self._architecture_config())

    def _architecture_config(self) -> dict[str, int | str | list[int]]:
        return {"fusion_stride": self.config.fusion_stride}

    def _validate(self, predict: Predict) -> Sequence[ImageScore]:
        return score(shown(self.parts.validation, "validating"), predict, self.config.input, THRESHOLD)

    def _test(self, predict: Predict) -> Sequence[ImageScore]:
        return score(shown(self.parts.test, "testing"), predict, self.config.input, THRESHOLD)

    def _report(self, progress: Progress) -> None:
        last = progress.history[-1]
        self._record(progress)
        iou = "" if last.validation_iou is None else f"  validation IoU {last.validation_iou:.4f}"
        left = tqdm.format_interval(progress.seconds_left(self.config.epochs))
        title = f"epoch {last.epoch + 1}/{self.config.epochs}"
        self.say(f"{title}  loss {last.loss:.4f}{iou}  {last.seconds:.1f} s  {left} left")

    def _record(self, progress: Progress) -> None:
        self.folder.write_epochs(progress)
        draw_curves(progress.history, self.folder.path / "curves.png")


def shown(pairs: PairCache, title: str) -> Iterator[tuple[str, tuple[Image, Mask]]]:
    """Yield the named pairs behind a progress bar, if a terminal is there to show it."""
    yield from tqdm(pairs.named(), title, len(pairs), leave=False, unit="image", disable=None)


def _test_scores(parts: Parts, scores: Sequence[ImageScore], likeness: Likeness) -> Scores:
    iou_mean, iou_std = mean_and_std(score.agreement.iou for score in scores)
    accuracy_mean, accuracy_std = mean_and_std(score.agreement.accuracy for score in scores)
    flagged = [likeness.distance(image) > likeness.limit for _, (image, _) in parts.test.named()]
    return Scores(
        dataset=parts.dataset.name,
        split=f"test part; {parts.split.how}",
        n=len(scores),
        iou_mean=iou_mean,
        iou_std=iou_std,
        accuracy_mean=accuracy_mean,
        accuracy_std=accuracy_std,
        dice_mean=mean_and_std(score.agreement.dice for score in scores)[0],
        expected_iou_error=mean_and_std(abs(score.expected_iou - score.agreement.iou) for score in scores)[0],
        flagged_fraction=float(np.mean(flagged)),
    )


def _data(parts: Parts) -> Data:
    return Data(
        name=parts.dataset.name,
        digest=parts.dataset.digest,
        n_train=len(parts.train),
        n_validation=len(parts.validation),
        n_test=len(parts.test),
        split=parts.split.how,
    )


def _rgb(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"

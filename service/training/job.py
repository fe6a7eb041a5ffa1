"""The training job: dataset folder in, published checkpoint out. Here, and only here, its parts are joined."""

import itertools
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from service.engine.predictor import Predictor
from service.engine.quality import MaskRule
from service.errors import BadConfig
from service.store.card import Data
from service.store.durable import naming
from service.training.augment import TrainingItems
from service.training.beginning import begin
from service.training.calibrate import calibrate
from service.training.config import Config
from service.training.dataset import missing_kind
from service.training.finished import finished, say_caution
from service.training.fit import best_predictor, fit, load_best, prepare_fitting, scoring_precision
from service.training.initial import (
    architecture_config,
    begin_with,
    build_network,
    check_batch,
    check_built_alike,
    settle_beginning,
)
from service.training.measure import measure
from service.training.nothing_found import caution_of_nothing
from service.training.origins import parts_digest
from service.training.parts import Parts, Say, Usual, read_parts, shown, study
from service.training.pictures import draw_curves, draw_expected, draw_samples
from service.training.processes import agreed_precision, check_agreed, check_same_data, make_fabric, part
from service.training.publication import Trained, check_apart, check_store, describe, prove_and_publish
from service.training.resources import memory_for_a_step, memory_for_validation, room_on_disk
from service.training.run_folder import CURVES, EXPECTED, SAMPLES, TENSORBOARD, Result, RunFolder
from service.training.run_lock import held
from service.training.scores import ImageScore, Predict, score
from service.training.state import Progress
from service.training.teacher import Teacher, fitting_checkpoint
from service.training.tensorboard import ScalarLog
from service.training.untrained import keep_untrained
from service.training.watch import Watch

VALIDATION_RULE = MaskRule(threshold=0.5)
"""The rule by which epochs are compared; the checkpoint's own rule is chosen once the best epoch is known."""
SAMPLE_IMAGES = 6


@room_on_disk()
def run(
    config: Config,
    path: Path,
    store: Path | None,
    say: Say,
    *,
    encoder_weights: Path | None = None,
    soup: Sequence[Path] = (),
    teacher: Path | None = None,
) -> Result | None:
    """Train as `config` says in the run folder `path`, resuming where it was interrupted; publish into `store`.

    Without a `store` the checkpoint stays in the run folder until a later call gives one. A finished run is not run
    again: its result is returned.

    If `config` asks for it, a new run takes its encoder, or its whole network, from the file `encoder_weights`; with
    `soup`, from the mean of all these files. The run folder `teacher` is needed until the run ends. Of several
    processes only rank 0 writes, speaks and publishes; the others return None.

    Raises:
        BadConfig: `path` holds another run, one still in progress, or a state that does not fit; the network cannot be
            built as `config` says; memory does not suffice, or a data-loading process died.
        BadDataset: a file of the dataset cannot be used; the message names it.
        BadCheckpoint: the checkpoint, loaded back, does not score as the network did; or the store cannot be listed.
        OSError: the run folder or the store cannot be written. Whatever was written before is intact.
    """
    folder = RunFolder(path)
    config = folder.settle(config, agreed_precision)
    fabric = make_fabric(config)
    check_agreed(fabric, config)
    with held(path, say) if fabric.is_global_zero else nullcontext(), naming(path):
        begun_with = [*([] if encoder_weights is None else [encoder_weights]), *soup]
        return _run(config, folder, fabric, store, say, begun_with=begun_with, teacher=teacher)


def _run(
    config: Config,
    folder: RunFolder,
    fabric: Fabric,
    store: Path | None,
    say: Say,
    *,
    begun_with: Sequence[Path],
    teacher: Path | None,
) -> Result | None:
    leads = fabric.is_global_zero
    say = say if leads else _say_nothing
    folder.check(config)
    if (result := folder.result()) is not None:
        return finished(config, folder, result, store, say) if leads else None
    if leads:
        folder.check_writable()
        if store is not None:
            advice = "give another --store, or --no-publish for now; nothing was trained"
            check_store(store, config.modality, advice)
            check_apart(store, folder.path)
    network = _network(config, folder, say, begun_with=begun_with, teacher=teacher)
    parts = read_parts(config, folder, say, leads=leads)
    check_same_data(fabric, parts.dataset.pairs_digest)
    if leads:
        folder.check_apart(config.data, parts.dataset)
        begin(config, folder, parts, say, begun_with=begun_with, teacher=teacher if config.teacher else None)
    watch = Watch(folder, parts.dataset, parts.caches)
    usual = study(parts.train, config.input, quiet=not leads)
    job = Job(config, folder, parts, usual, fabric.device, say)
    progress = job.train(fabric, network, teacher, check=watch.check)
    part(fabric)
    if not leads:
        return None
    with memory_for_validation(config, fabric.device):
        trained, predictor = job.finish(progress)
        job.draw(predictor, trained.rule)
        watch.check()
        result = job.publish(trained, store, progress)
    folder.write_result(result)
    say_caution(result, say)
    return result


def _network(
    config: Config, folder: RunFolder, say: Say, *, begun_with: Sequence[Path], teacher: Path | None
) -> nn.Module:
    """Build the network that the run begins with; what cannot be built or taught is refused before the data are read.

    Raises:
        BadConfig: it cannot be built, a file of `begun_with` does not fit it, or `teacher` sees another grid.
    """
    network = build_network(config)
    check_batch(network, config)
    if config.teacher and teacher is not None:
        fitting_checkpoint(teacher, config)
    if config.encoder_weights and not folder.has_begun:
        for file in begun_with if config.fine_tune else ():
            check_built_alike(file, config)
        say(begin_with(network, begun_with, whole=config.fine_tune))
    return network


@dataclass(frozen=True, slots=True)
class Job:
    """One run whose data have been read: what remains is to train, to measure the best network and to publish it."""

    config: Config
    folder: RunFolder
    parts: Parts
    usual: Usual
    device: torch.device
    say: Say

    def train(
        self,
        fabric: Fabric,
        network: nn.Module,
        teacher: Path | None = None,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Progress:
        """Run the remaining epochs; after each, report a line, redraw the curves and log scalars for TensorBoard.

        `check` is also called before the first epoch. If it raises after an epoch, nothing of that epoch is kept.
        """
        if fabric.is_global_zero:
            self.parts.validation.fill()  # now, not at the first validation: masks may be mended while a run learns
            self.parts.test.fill()
            check()  # no file changed between opening the data and caching them
        if not self.config.epochs:
            return self._keep(network) if fabric.is_global_zero else Progress()
        items = TrainingItems(self.parts.train, len(self.parts.train), self.config)
        if not self.folder.has_begun:
            settle_beginning(network, items, self.usual.normalisation, whole=self.config.fine_tune)
        taught_by = self._teacher(teacher)
        with memory_for_a_step(self.config, self.device):
            fitting = prepare_fitting(self.config, fabric, network, items, self.usual.normalisation, teacher=taught_by)
        with closing(ScalarLog(self.folder.path / TENSORBOARD)) as log:

            def on_epoch(progress: Progress) -> None:
                self._report(progress)
                log.record(progress)

            progress = fit(fitting, self.folder.path, self.usual.normalisation, self._validate, on_epoch, check=check)
            if fabric.is_global_zero:
                log.record(progress)  # a run killed right after its last state was saved lacks that epoch
        return progress

    def finish(self, progress: Progress) -> tuple[Trained, Predictor]:
        """Take the best epoch's network, calibrate it on validation images, and measure it on test images."""
        self._record(progress)  # again: a run killed right after its last state was saved lacks that epoch's line
        network = load_best(self.folder.path, build_network(self.config))

        def predictor_at(temperature: float) -> Predictor:
            return best_predictor(
                network, self.usual.normalisation, self.device, precision="float32", temperature=temperature
            )

        policy, test = self.config.input, None
        calibration = calibrate(self.parts.validation, predictor_at, policy, self.config.seed)
        if len(self.parts.test):
            test, scores = measure(self.parts, predictor_at, calibration, self.usual, policy)
            draw_expected(scores, self.folder.path / EXPECTED)
        trained = Trained(
            config=self.config,
            network=network,
            architecture_config=architecture_config(self.config),
            usual=self.usual,
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            least_component=calibration.least_component,
            expected_iou=calibration.expected_iou,
            data=_data(self.parts),
            commit=self.folder.commit,
            best_epoch=progress.best_epoch,
            seconds=progress.seconds,
            device=_device_name(self.device),
            test=test,
        )
        return trained, predictor_at(calibration.temperature)

    def publish(self, trained: Trained, store: Path | None, progress: Progress) -> Result:
        """Publish what was trained, say where it lies, and return the run's result."""
        card, weights = describe(trained)
        published = prove_and_publish(card, weights, store, self.folder.path, partial(self._test, trained.rule))
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
            checkpoint=str(published.absolute()),  # a relative path says nothing in another working directory
            threshold=trained.threshold,
            calibration_error=test.calibration_error.after if test and test.calibration_error else None,
            expected_iou_error=test.expected_iou_error if test else None,
            caution=self._caution(test.iou_mean if test else None, progress.best_iou),
        )

    def draw(self, predictor: Predictor, rule: MaskRule) -> None:
        """Draw a few test images (validation images if there are none) with reference, mask and errors."""
        source = self.parts.test if len(self.parts.test) else self.parts.validation
        named = itertools.islice(source.named(), SAMPLE_IMAGES)
        draw_samples(named, predictor.predict, self.config.input, self.folder.path / SAMPLES, rule)

    def _keep(self, network: nn.Module) -> Progress:
        with memory_for_validation(self.config, self.device):
            progress = keep_untrained(network, self.folder.path, self.usual.normalisation, self.device, self._validate)
        self.say(f"not trained  validation IoU {progress.best_iou:.4f}")
        return progress

    def _teacher(self, run: Path | None) -> Teacher | None:
        if self.config.teacher is None:
            return None
        if run is None:
            raise BadConfig("this run has a teacher: give its run folder with --teacher")
        teacher = Teacher.of(run, self.config, self.device, scoring_precision(self.device))
        self.say(f"taught by {self.config.teacher}, {self.config.teaching:.0%} of the loss")
        return teacher

    def _validate(self, predict: Predict) -> Sequence[ImageScore]:
        return score(shown(self.parts.validation, "validating"), predict, self.config.input, VALIDATION_RULE)

    def _test(self, rule: MaskRule, predict: Predict) -> Sequence[ImageScore]:
        return score(shown(self.parts.test, "testing"), predict, self.config.input, rule)

    def _report(self, progress: Progress) -> None:
        last = progress.history[-1]
        self._record(progress)
        iou = "" if last.validation_iou is None else f"  validation IoU {last.validation_iou:.4f}"
        left = tqdm.format_interval(progress.seconds_left(self.config.epochs, self.config.coarse_epochs))
        title = f"epoch {last.epoch + 1}/{self.config.epochs}"
        self.say(f"{title}  loss {last.loss:.4f}{iou}  {last.seconds:.1f} s  {left} left")

    def _caution(self, test_iou: float | None, validation_iou: float) -> str | None:
        dataset, split = self.parts.dataset, self.parts.split
        if test_iou is not None and missing_kind(dataset, split.test) != "foreground":
            # The test IoU is at the chosen threshold; epochs are validated at 0.5.
            return caution_of_nothing(dataset, split.test, test_iou, "test")
        return caution_of_nothing(dataset, split.validation, validation_iou, "validation")

    def _record(self, progress: Progress) -> None:
        self.folder.write_epochs(progress)
        if progress.history:
            draw_curves(progress.history, self.folder.path / CURVES)


def _say_nothing(_: str) -> None:
    pass


def _data(parts: Parts) -> Data:
    return Data(
        name=parts.dataset.name,
        digest=parts.dataset.digest,
        n_train=len(parts.train),
        n_validation=len(parts.validation),
        n_test=len(parts.test),
        split=parts.split.how,
        parts_digest=parts_digest(parts.split, parts.dataset.images),
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"

"""From a trained network to a published checkpoint: re-parameterise, compare, describe, prove by loading it back."""

import contextlib
import copy
import datetime as dt
import errno
import math
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from service import __version__
from service.engine.choosing import Wish, load_engine
from service.engine.predictor import Predictor
from service.engine.probing import TOLERANCE, raster
from service.engine.quality import MaskRule
from service.errors import BadCheckpoint, BadConfig
from service.imaging.placement import Image
from service.imaging.probe import probe
from service.imaging.share import UsualShare
from service.imaging.statistics import FEATURES, Likeness
from service.network import count_parameters, reparameterize
from service.network.normalise import Normalise
from service.store.card import (
    Card,
    Data,
    IouEstimate,
    Normalisation,
    Probe,
    Scores,
    Training,
    TrainingImages,
    TrainingMasks,
)
from service.store.checkpoint import Checkpoint, sha256
from service.store.durable import NO_ROOM
from service.store.model_store import ModelStore
from service.store.publish import publish, publish_next
from service.training.config import Config
from service.training.parts import Usual
from service.training.run_folder import CHECKPOINT
from service.training.scores import ImageScore, Predict, mean_and_std

RASTER = 16
LIBRARIES = ("torch", "numpy", "pillow", "monai", "lightning-fabric", "safetensors")
LARGEST_CHANGE = 0.01
"""Largest difference in mean test IoU between the run's own network and the published one, by plain PyTorch."""

ScoreAgain = Callable[[Predict], Sequence[ImageScore]]
"""Scores the test images with a predictor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run ends with, before it is a checkpoint. `network` is in training form, float32, on the CPU."""

    config: Config
    network: nn.Module
    architecture_config: dict[str, int | str | list[int]]
    usual: Usual
    temperature: float
    threshold: float
    least_component: float = 0.0
    expected_iou: IouEstimate | None = None
    data: Data
    commit: str
    best_epoch: int
    seconds: float
    device: str
    test: Scores | None

    @property
    def rule(self) -> MaskRule:
        """The rule by which a probability map becomes a mask."""
        return MaskRule(self.threshold, self.least_component)


def describe(trained: Trained) -> tuple[Card, bytes]:
    """Return the card, of version "1", and the weights file of the re-parameterised network."""
    plain = reparameterize(trained.network)
    weights = save({name: tensor.contiguous() for name, tensor in plain.state_dict().items()})
    config = trained.config
    image = probe(config.input.grid, trained.usual.normalisation.mean, trained.usual.normalisation.std)
    card = Card(
        modality=config.modality,
        version="1",
        label=config.label,
        created=dt.datetime.now(dt.UTC).date().isoformat(),
        architecture=config.architecture,
        architecture_config=trained.architecture_config,
        parameters=count_parameters(plain),
        parameters_in_training=count_parameters(trained.network),
        largest_logit_difference=logit_difference(trained.network, plain, image, trained.usual.normalisation),
        input=config.input,
        normalisation=trained.usual.normalisation,
        temperature=trained.temperature,
        threshold=trained.threshold,
        least_component=trained.least_component,
        expected_iou=trained.expected_iou,
        test=trained.test,
        data=trained.data,
        training=_training(trained),
        training_images=_training_images(trained.usual.likeness),
        training_masks=_training_masks(trained.usual.share),
        probe=_probe(plain, image, trained),
        weights_sha256=sha256(weights),
        int8=None,
    )
    return card, weights


def check_store(store: Path, modality: str, advice: str) -> None:
    """Check that `store` can be published into, before hours are spent on what is to lie there. Nothing is written.

    `advice` is what the error message says to do.

    Raises:
        BadCheckpoint: it cannot be listed.
        OSError: it cannot be written, or cannot be made.
    """
    ModelStore(store).versions(modality)
    for folder in (store, store / modality):
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, f"{os.strerror(errno.EACCES)}: {advice}", str(nearest))


def check_apart(store: Path, run: Path) -> None:
    """Check that `store` is not where the run in the folder `run` proves its checkpoint: that place is cleared first.

    Raises:
        BadConfig: it is, or lies inside it.
    """
    trial = run / CHECKPOINT
    if store.resolve().is_relative_to(trial.resolve()):
        advice = "give another --store, or --no-publish to leave the checkpoint there"
        raise BadConfig(f"--store {store}: the run clears {trial} before it keeps its own checkpoint there; {advice}")


def prove_and_publish(card: Card, weights: bytes, store: Path | None, run: Path, score_again: ScoreAgain) -> Path:
    """Publish inside the run, load that back, score it again, and only then publish into `store`.

    The engine that scores it is plain PyTorch, which every machine has, in float32, as the run was measured. Half
    precision might find a pixel in an image whose mask is empty, and among few test images one such image weighs much.
    A server that runs another engine compares its answer to the card's probe before it serves.

    Return the published folder: the next version in `store`, or the one that this run published there before it was
    killed; without a `store`, the one inside the run.

    Raises:
        BadCheckpoint: what was loaded back does not score as the run's own network did.
        AlreadyPublished: other jobs took every version that was tried.
        OSError: the run folder or the store cannot be written.
    """
    trial = run / CHECKPOINT
    shutil.rmtree(trial, ignore_errors=True)
    proven = publish(trial, card, weights)
    engine = load_engine(ModelStore(trial).newest(card.modality), Wish(engine="torch", precision="float32"))
    if card.test is not None:
        again = mean_and_std(score.agreement.iou for score in score_again(engine.predict))[0]
        if abs(again - card.test.iou_mean) > LARGEST_CHANGE:
            raise BadCheckpoint(f"served, the checkpoint scores IoU {again:.4f}; in training {card.test.iou_mean:.4f}")
    if store is None:
        return proven
    return published_before(run, card.modality, store) or _publish_next(store, card, weights)


def publish_kept(run: Path, modality: str, store: Path) -> Path:
    """Publish into `store` the checkpoint that a finished run proved and keeps; it is loaded back once more first.

    Raises:
        BadCheckpoint: the run has lost it, or its recorded answer can no longer be reproduced.
        AlreadyPublished, OSError: as `prove_and_publish`.
    """
    checkpoint = _kept(run, modality)
    load_engine(checkpoint, Wish(engine="torch"))
    return _publish_next(store, checkpoint.card, checkpoint.read_weights())


def published_before(run: Path, modality: str, store: Path) -> Path | None:
    """Return the folder in `store` where the run's checkpoint has been published already; None if it has not.

    Raises:
        BadCheckpoint: the run has lost it, or the store cannot be listed.
    """
    kept = _origin(_kept(run, modality).card)
    for number in ModelStore(store).versions(modality):
        with contextlib.suppress(BadCheckpoint):  # a broken version is of no use to this run
            checkpoint = ModelStore(store).open(modality, str(number))
            if _origin(checkpoint.card) == kept:
                return checkpoint.folder
    return None


def _origin(card: Card) -> tuple[object, ...]:
    """Return what distinguishes a run's checkpoint from all others: no two trainings take exactly the same time.

    Runs of no epochs take no time; they may publish the same network for several grids, or measured on other images.
    """
    made = card.weights_sha256, card.label, card.training.duration_s
    return *made, card.input, card.data.digest, card.data.parts_digest


def _publish_next(store: Path, card: Card, weights: bytes) -> Path:
    try:
        return publish_next(store, card, weights)
    except OSError as error:
        if error.errno in NO_ROOM:  # `room_on_disk` says what to do then
            raise
        advice = "once that is mended, the same command publishes without training anew"
        raise OSError(error.errno, f"{error.strerror}: {advice}", error.filename) from error


def _kept(run: Path, modality: str) -> Checkpoint:
    kept = ModelStore(run / CHECKPOINT)
    if modality not in kept.modalities():
        raise BadCheckpoint(f"{run} has lost its checkpoint; remove result.json there, and the run finishes again")
    return kept.newest(modality)


def logit_difference(network: nn.Module, plain: nn.Module, image: Image, normalisation: Normalisation) -> float:
    """Return the largest difference of the two forms' logits for `image`, uint8 (h, w, 3), computed in float64."""
    normalise = Normalise(normalisation.mean, normalisation.std, dtype=torch.float64)
    pixels = normalise(torch.from_numpy(image).permute(2, 0, 1)[None])
    with torch.inference_mode():
        in_training, served = (copy.deepcopy(form).double().eval()(pixels) for form in (network, plain))
    return float((in_training - served).abs().max())


def _probe(plain: nn.Module, image: Image, trained: Trained) -> Probe:
    """Record what the served form answers in float32."""
    predictor = Predictor.exact(plain, trained.usual.normalisation, temperature=trained.temperature)
    cells = raster(predictor.predict([image])[0] / 255.0, RASTER, RASTER)
    answer = tuple(round(cell, 5) for cell in cells)
    return Probe(rows=RASTER, columns=RASTER, answer=answer, tolerance=TOLERANCE)


def _training(trained: Trained) -> Training:
    config = trained.config.model_dump(mode="json", exclude={"modality", "label", "input", "preset", "seed", "network"})
    return Training(
        seed=trained.config.seed,
        commit=trained.commit,
        preset=trained.config.preset,
        config=config | {"data": Path(trained.config.data).name},  # a path says nothing on another machine
        versions={
            "python": platform.python_version(),
            "alnet-service": __version__,  # its own, since it may run from a checkout that is not installed
            **{name: version(name) for name in LIBRARIES},
        },
        device=trained.device,
        epochs=trained.config.epochs,
        best_epoch=trained.best_epoch + 1,
        duration_s=round(trained.seconds, 1),
    )


def _training_masks(usual: UsualShare) -> TrainingMasks:
    """Round outwards, so that no training mask's share is unusual; but only exact 0 and 1 become 0 and 1.

    Empty masks are usual where training masks are empty, not where some are as small as 0.00006 of the picture.
    """
    least, most = math.floor(usual.least * 1e4) / 1e4, math.ceil(usual.most * 1e4) / 1e4
    return TrainingMasks(least=least or usual.least, most=most if most < 1 else usual.most)


def _training_images(likeness: Likeness) -> TrainingImages:
    mean, scale = (tuple(round(float(value), 6) for value in values) for values in (likeness.mean, likeness.scale))
    return TrainingImages(features=FEATURES, mean=mean, scale=scale, limit=round(likeness.limit, 4))

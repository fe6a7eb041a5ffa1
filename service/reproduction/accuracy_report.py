"""What a reproduction of the paper's accuracy tables gives: the record that table.json holds."""

import math
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.errors import BadCheckpoint, BadConfig
from service.reproduction.learning_curves import read_curves
from service.reproduction.paper import Spread
from service.store.card import Data
from service.store.checkpoint import Checkpoint
from service.store.model_store import ModelStore
from service.training.config import Config
from service.training.run_folder import SPLIT, RunFolder


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FinishedRun(_Frozen):
    """What one training gave on its test images, and where and how it ran; all of it as its card says."""

    folder: str
    images: int
    iou: Spread
    accuracy: Spread
    parameters: int
    best_epoch: int
    epochs: int
    seconds: float
    data: Data
    device: str
    commit: str
    torch: str


class NetworkScore(_Frozen):
    """One network's runs: one, or one for each fold. `failure` says why some are missing."""

    network: str
    runs: tuple[FinishedRun, ...]
    failure: str | None = None

    @property
    def iou(self) -> Spread:
        """IoU over the test images of all runs."""
        return pooled((run.images, run.iou) for run in self.runs)

    @property
    def accuracy(self) -> Spread:
        """Pixel accuracy over the test images of all runs."""
        return pooled((run.images, run.accuracy) for run in self.runs)

    @property
    def parameters(self) -> int:
        """Parameters of the network as it is served."""
        return self.runs[0].parameters

    @property
    def minutes(self) -> float:
        """Minutes spent in the epochs of all runs, validation included."""
        return sum(run.seconds for run in self.runs) / 60


class AccuracyReport(_Frozen):
    """All networks that have had their turn, with what was asked. `recipe` is that of every network."""

    command: str
    recipe: Config
    folds: int | None
    networks: tuple[NetworkScore, ...] = ()

    @property
    def scored(self) -> list[NetworkScore]:
        """The networks all of whose runs are finished."""
        return [score for score in self.networks if score.failure is None]

    @property
    def runs(self) -> list[FinishedRun]:
        """Every finished run."""
        return [run for score in self.networks for run in score.runs]


def read_finished(path: Path) -> FinishedRun | None:
    """Return what the run in the folder `path` gave; None while it is not finished.

    Raises:
        BadConfig: the run had no test images; or a file that tables and pictures are made of is lost or damaged.
        BadCheckpoint: its checkpoint is broken.
    """
    if RunFolder(path).result() is None:
        return None
    _check_kept(path)
    card = trial_checkpoint(path).card
    if card.test is None:
        raise BadConfig(f"{path} had no test images; give the test part a share of the images")
    return FinishedRun(
        folder=path.name,
        images=card.test.n,
        iou=Spread(card.test.iou_mean, card.test.iou_std),
        accuracy=Spread(card.test.accuracy_mean, card.test.accuracy_std),
        parameters=card.parameters,
        best_epoch=card.training.best_epoch,
        epochs=card.training.epochs,
        seconds=card.training.duration_s,
        data=card.data,
        device=card.training.device,
        commit=card.training.commit,
        torch=card.training.versions["torch"],
    )


def _check_kept(path: Path) -> None:
    """Check what is drawn of a finished run, besides its checkpoint, while a fault fails only this run's network.

    Raises:
        BadConfig: its split or the file of its epochs is lost or damaged.
    """
    if not (path / SPLIT).exists():
        advice = "bring it back, or remove the folder, and it is trained anew"
        raise BadConfig(f"{path} has lost {SPLIT}, which tells the images that test it; {advice}")
    RunFolder(path).recorded_split()
    read_curves(path)


def trial_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint that the run in the folder `path` keeps, found by place: the folder may have been moved.

    Raises:
        BadCheckpoint: there is none, or it is broken.
    """
    store = ModelStore(path / "checkpoint")
    if not (modalities := store.modalities()):
        raise BadCheckpoint(f"{path} has lost its checkpoint; remove result.json there, and the run finishes again")
    return store.newest(modalities[0])


def pooled(parts: Iterable[tuple[int, Spread]]) -> Spread:
    """Return mean and population standard deviation of all images, from those of each part and its number of images."""
    known = list(parts)
    total = sum(images for images, _ in known)
    mean = sum(images * part.mean for images, part in known) / total
    square = sum(images * (part.std**2 + (part.mean - mean) ** 2) for images, part in known) / total
    return Spread(mean, math.sqrt(square))

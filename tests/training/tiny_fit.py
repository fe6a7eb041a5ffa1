"""The training loop on a network and images so small that an epoch takes a moment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.engine.quality import MaskRule
from service.imaging.policy import InputPolicy
from service.store.card import Normalisation
from service.training.augment import TrainingItems
from service.training.config import Config, configure
from service.training.fit import Fitting, fit, prepare_fitting
from service.training.order import Key
from service.training.processes import make_fabric
from service.training.scores import ImageScore, Predict, score
from service.training.state import Progress
from service.training.teacher import Teacher

PLAIN = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
GRID = InputPolicy(kind="stretch", height=32, width=32)


def config(**changes: object) -> Config:
    """Return a configuration of four epochs of two steps of two images of 32 × 32.

    Coarse epochs of so few pixels are refused for networks that halve them five times, which `Network` does not.
    """
    short = {"epochs": 4, "steps_per_epoch": 2, "batch_size": 2, "crop_px": 32, "input": GRID, "precision": "float32"}
    fine = configure("data", "own", "quick", short | {**changes, "coarse_epochs": 0})
    return fine.model_copy(update={"coarse_epochs": changes.get("coarse_epochs", 0)})


class Network(nn.Module):
    """A convolution, its batch norm, dropout and another convolution; remembers the size of what it was trained on."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(dropout), nn.Conv2d(4, 1, 1)
        )
        self.trained_on: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.trained_on.append(tuple(images.shape))
        logits: Tensor = self.layers(images)
        return logits


def pair(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image, uint8 (32, 32, 3), and its mask: where it is bright."""
    image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return image, (image.mean(axis=2) > 127).astype(np.uint8)


class RecordedItems(TrainingItems):
    """Items that remember which of them were asked for, as long as this process itself makes them."""

    def __init__(self, images: int, config: Config) -> None:
        super().__init__(pair, images, config)
        self.seen: list[Key] = []

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        self.seen.append(key)
        return super().__getitem__(key)


@dataclass
class Fit:
    """One run of the loop: what it is given, and what it did."""

    config: Config
    folder: Path
    network: nn.Module = field(default_factory=Network)
    teacher: Teacher | None = None
    on_epoch: Callable[[Progress], None] = lambda progress: None
    validations: int = 0
    seen: list[Key] = field(default_factory=list)

    def run(self) -> tuple[Fitting, Progress]:
        """Train; return what was trained, and how far."""
        items = RecordedItems(3, self.config)
        fitting = prepare_fitting(
            self.config, make_fabric(self.config), self.network, items, PLAIN, teacher=self.teacher
        )
        progress = fit(fitting, self.folder, PLAIN, self._validate, self.on_epoch)
        self.seen = items.seen
        return fitting, progress

    def _validate(self, predict: Predict) -> Sequence[ImageScore]:
        self.validations += 1
        return score([("validation", pair(99))], predict, GRID, MaskRule(0.5))

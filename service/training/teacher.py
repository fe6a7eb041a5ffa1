"""Distillation: a network that was trained earlier teaches another (Hinton et al., 2015, arXiv:1503.02531).

Besides the masks, which say yes or no, the student is shown what a larger or better prepared network makes of the very
same view: where an outline is doubtful, and how doubtful.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from service.engine.predictor import DTYPES
from service.engine.weights import build_network, read_state
from service.errors import BadConfig
from service.network.normalise import Normalise
from service.store.checkpoint import Checkpoint
from service.store.model_store import ModelStore
from service.training.config import Config, file_identity, spelt
from service.training.run_folder import CHECKPOINT


class Teacher(nn.Module):
    """A trained network in evaluation mode: pixels in, its calibrated probabilities out."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        card = checkpoint.card
        self.network = build_network(card, read_state(checkpoint)).requires_grad_(False).eval().to(device, dtype)
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.normalise = Normalise(card.normalisation.mean, card.normalisation.std, dtype=dtype).to(device)
        self.temperature = card.temperature

    @classmethod
    def of(cls, run: Path, config: Config, device: torch.device, precision: str) -> Self:
        """Return the network that the finished run in the folder `run` left, for a run of `config`.

        `service.training.leak` checks which images it knows.

        Raises:
            BadConfig: as `fitting_checkpoint`.
            BadCheckpoint: its checkpoint is damaged.
        """
        checkpoint = fitting_checkpoint(run, config)
        return cls(checkpoint, device, DTYPES[precision])

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities, float32 (N, 1, h, w), of pixels (N, 3, h, w) of 0 to 255 on the teacher's device."""
        logits: Tensor = self.network(self.normalise(pixels))
        return torch.sigmoid(logits.float() / self.temperature)


def fitting_checkpoint(run: Path, config: Config) -> Checkpoint:
    """Return what the finished run in the folder `run` left, if it may teach a run of `config`.

    Raises:
        BadConfig: it is no finished run; or its network is of another modality or grid.
        BadCheckpoint: its card is damaged.
    """
    checkpoint = _checkpoint(run, config.modality)
    if checkpoint.card.input != config.input:
        raise BadConfig(f"the teacher in {run} sees {spelt(checkpoint.card.input)}, this run {spelt(config.input)}")
    return checkpoint


def teacher_identity(run: Path, modality: str) -> str:
    """Return what identifies the teacher on any machine: "RUN sha256:HEX", the digest of its weights.

    Raises:
        BadConfig: `run` is no finished run of this modality.
    """
    _, _, digest = file_identity(_checkpoint(run, modality).weights_path).partition(" ")
    return f"{run.resolve().name} {digest}"


def _checkpoint(run: Path, modality: str) -> Checkpoint:
    store = ModelStore(run / CHECKPOINT)
    if modality not in store.modalities():
        raise BadConfig(f"{run} is no teacher: it holds no finished run of {modality}")
    return store.newest(modality)

"""The PyTorch engines: one checkpoint on CUDA or on the CPU. The plain one works wherever PyTorch does."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.engine.cuda_graphs import GraphPredictor
from service.engine.half_precision import cpu_precisions
from service.engine.parity import probe_tile
from service.engine.predictor import DTYPES, Predictor
from service.errors import AlnetError, BadSettings, DeviceLost, EngineFailed
from service.network.on_gpu import on_gpu
from service.network.on_grid import on_grid
from service.store.card import Card


class TorchEngine:
    """One published checkpoint, ready to answer; see `service.engine.engine.Engine` for the contract."""

    def __init__(self, card: Card, predictor: Predictor | GraphPredictor, device: str) -> None:
        self.card, self.device, self._predictor = card, device, predictor

    @classmethod
    def build(cls, card: Card, network: nn.Module, device: torch.device, precision: str) -> "TorchEngine":
        """Return the engine of the card's re-parameterised `network`, which is float32 on the CPU and stays unchanged.

        On a CPU the engine computes what it can on coarse grids, which takes two thirds of the time there.
        """
        return cls(card, _predictor(card, network, device, precision), f"{device} {precision}")

    @classmethod
    def build_recorded(cls, card: Card, network: nn.Module, device: torch.device, precision: str) -> "TorchEngine":
        """Return the engine that replays CUDA graphs of the network; see `service.engine.cuda_graphs`."""
        predictor = _predictor(card, network, device, precision, for_tensor_cores=True)
        recorded = GraphPredictor.of(predictor, probe_tile(card))
        return cls(card, recorded, f"{device} {precision} cuda-graphs")

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return one probability map for each tile; see `service.engine.engine.Engine.predict`."""
        try:
            return self._predictor.predict(tiles)
        except (AlnetError, torch.OutOfMemoryError):  # the batcher answers a lack of memory with smaller batches
            raise
        except RuntimeError as error:
            if not _answers(self._predictor.device):
                raise DeviceLost(f"{self.device} does not answer any more") from error
            raise EngineFailed(f"{self.device} could not run a batch of {len(tiles)}") from error

    def prepare(self, batch_size: int) -> None:
        """Let a GPU choose or record its kernels; see `service.engine.engine.EngineThatPrepares.prepare`."""
        if self._predictor.device.type != "cpu":
            self.predict([np.zeros((*self.card.input.grid, 3), np.uint8)] * batch_size)


def _predictor(
    card: Card, network: nn.Module, device: torch.device, precision: str, *, for_tensor_cores: bool = False
) -> Predictor:
    is_plain = device.type != "cpu" and not for_tensor_cores
    return Predictor(
        copy.deepcopy(network) if is_plain else served_form(network, card.input.grid, device),
        card.normalisation,
        temperature=card.temperature,
        device=device,
        dtype=DTYPES[precision],
    )


def served_form(network: nn.Module, grid: tuple[int, int], device: torch.device) -> nn.Module:
    """Return the fastest form, on that kind of device, of the re-parameterised `network` for images of `grid`.

    It computes the same and shares nothing with `network`.
    """
    return on_grid(copy.deepcopy(network), grid) if device.type == "cpu" else on_gpu(network, grid)


def give_back_unused_of_gpu() -> None:
    """Free the GPU memory that PyTorch keeps for nobody, such as that of graphs that are gone.

    Call it in the device's thread, since nothing may be recorded at the time. Without a GPU it does nothing.
    """
    torch.cuda.empty_cache()


def pick_device(
    name: str, *, setting: str = "--device cuda (or ALNET_DEVICE=cuda)", instead: str = "auto or cpu"
) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".

    Raises:
        BadSettings: CUDA is asked for and not there; the message names the `setting` and what to use `instead`.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BadSettings(f"{setting}, but PyTorch sees no CUDA device; use {instead}, or check the driver")
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _answers(device: torch.device) -> bool:
    """Whether `device` still works; after a CUDA fault every further call in the process fails."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def memory_held_bytes() -> int:
    """Return the GPU memory that PyTorch holds for this process, whether in use or kept for reuse; 0 on the CPU."""
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0


def gpu_has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself, as from Ampere on; if not, cuDNN has no convolutions for it."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def precisions(device: torch.device, asked: str) -> list[str]:
    """Return the names of the dtypes to try, best first: what was asked for, or what the device is fast in."""
    if asked != "auto":
        return [asked]
    return ["float16", "float32"] if device.type == "cuda" else list(cpu_precisions())

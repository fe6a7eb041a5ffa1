"""A run's state on disk: one safetensors file, replaced as a whole, so that SIGKILL at any moment leaves a sound one.

No pickle: tensors are named, and what is no tensor is JSON in the file's own header.
"""

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from service.errors import BadConfig
from service.store.durable import give_mode
from service.training.average import WeightAverage

STATE = "state.safetensors"
"""The state's file in a run folder: where there is one, an epoch has been finished."""

BEST = "best.safetensors"
"""The network's file in a run folder: its weights of the best epoch so far."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """How one epoch went, counted from 0. Validation scores are None in epochs that were not validated."""

    epoch: int
    learning_rate: float
    loss: float
    validation_iou: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(slots=True)
class Progress:
    """How far a run has come: what the next epoch needs to know besides the tensors."""

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = -1
    best_iou: float = -1.0

    @property
    def next_epoch(self) -> int:
        """The number of epochs that are done."""
        return len(self.history)

    @property
    def seconds(self) -> float:
        """Time spent in epochs, over all starts of the run."""
        return sum(record.seconds for record in self.history)

    def seconds_left(self, epochs: int, coarse_epochs: int = 0) -> float:
        """Return the time that the rest of `epochs` will take at the pace of those done (at least one).

        Each of the first `coarse_epochs` sees a quarter of the pixels that a later epoch sees.
        """

        def work(count: int) -> float:
            return count - 0.75 * min(count, coarse_epochs)

        return (work(epochs) - work(self.next_epoch)) * self.seconds / work(self.next_epoch)


def save_state(
    path: Path, network: nn.Module, optimizer: Optimizer, progress: Progress, average: WeightAverage | None = None
) -> None:
    """Write network, optimizer, average and progress to `path`, all or nothing.

    Raises:
        OSError: as `write_atomically` does.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.network.state_dict().items()}
        tensors["average_steps"] = torch.tensor(average.steps)
    write_atomically(
        path, save({k: v.contiguous() for k, v in tensors.items()}, {"progress": json.dumps(asdict(progress))})
    )


def load_state(path: Path, network: nn.Module, optimizer: Optimizer, average: WeightAverage | None = None) -> Progress:
    """Restore network, optimizer and average from the state in `path`; return the progress.

    Raises:
        BadConfig: the file is no state of this network and optimizer.
    """
    try:
        tensors, progress = _read(path)
        network.load_state_dict(_below(tensors, "network."))
        restored, parameters = optimizer.state_dict(), _parameters(optimizer)
        for name, tensor in _below(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            restored["state"].setdefault(int(index), {})[key] = _laid_out(tensor, parameters[int(index)])
        optimizer.load_state_dict(restored)
        if average is not None:
            average.network.load_state_dict(_below(tensors, "average."))
            average.steps = int(tensors["average_steps"])
    except (OSError, SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise BadConfig(f"{path} is no state of this run ({error}); start it in another folder with --run") from error
    return progress


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: a reader, and a run killed at any moment, finds the old file or the new one.

    A run folder has one writer, so the draft always has the same name: however often a run is killed, it leaves at most
    one. That may be another user's file, which cannot be overwritten, so it is removed.

    Raises:
        OSError: the disk is full or cannot be written; `path` is as it was.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()  # on a full disk its space is needed
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed write does not name its file


def make_alike(folder: Path) -> None:
    """Create a folder if missing, with the mode of its parent: whoever may write there may write here.

    Not if the parent has a sticky bit, as `/tmp` has: there each user's files are that user's alone.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    mode = stat.S_IMODE(folder.parent.stat().st_mode)
    if not mode & stat.S_ISVTX:
        give_mode(folder, mode)


def _read(path: Path) -> tuple[dict[str, Tensor], Progress]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict, keys() is its method
        values = json.loads(file.metadata()["progress"])
    values["history"] = [EpochRecord(**record) for record in values["history"]]
    return tensors, Progress(**values)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _laid_out(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    """Give Adam's moment its parameter's memory layout, as in an undisturbed run: another may round differently."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor

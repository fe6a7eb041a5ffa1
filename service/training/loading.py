"""Batches from loading processes, and what it means when one of these fails."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from service.engine.memory import is_out_of_memory
from service.errors import AlnetError, BadConfig
from service.training.config import Config
from service.training.order import EpochOrder

Batch = tuple[Tensor, Tensor]
Batches = DataLoader[Batch]

SHARED_MEMORY = ("shared memory", "/torch_", "Bus error")
"""Words of PyTorch's messages when a batch could not be handed over in shared memory."""


def make_batches(items: Dataset[Batch], order: EpochOrder, config: Config, device: torch.device) -> Batches:
    """Return a loader of (images, masks) in this `order`, with `config.workers` processes that persist over epochs."""
    return DataLoader(
        items,
        config.batch_size,
        sampler=order,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=device.type == "cuda",
    )


def loaded(batches: Batches) -> Iterator[Batch]:
    """Yield an epoch's batches.

    Raises:
        AlnetError: an item could not be made; the error is the same, whichever process raised it.
        BadConfig: a loading process died, or memory (shared memory included) does not suffice.
    """
    try:
        yield from batches
    except AlnetError as error:
        if not batches.num_workers:
            raise
        # The loader hands over the other process's traceback as the message; its last line is what was said there.
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from error
    except (RuntimeError, MemoryError) as error:
        if not (batches.num_workers or is_out_of_memory(error)):
            raise
        raise BadConfig(f"{_what_happened(error)}: {_advice(error, batches.num_workers)}") from error


def _what_happened(error: Exception) -> str:
    if any(words in str(error) for words in SHARED_MEMORY):
        return "the loading processes have too little shared memory (/dev/shm)"
    if is_out_of_memory(error):
        return "out of memory while loading images"
    last = str(error).strip().splitlines()[-1]
    return f"a loading process failed ({last})"


def _advice(error: Exception, workers: int) -> str:
    if any(words in str(error) for words in SHARED_MEMORY):
        return "give a container more of it (docker run --shm-size 1g, or --ipc host), or go on with --workers 0"
    fewer = f"fewer than --workers {workers} or " if workers else ""
    return f"if memory was short, go on with {fewer}a smaller --cache-gib"

"""Too little memory or disk: each library says so in its own way; here a person is told what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from service.engine.memory import is_out_of_memory
from service.errors import BadConfig
from service.store.durable import NO_ROOM
from service.training.config import Config


@contextmanager
def memory_for_a_step(config: Config, device: torch.device) -> Iterator[None]:
    """Say how training gets by with less memory, if there is too little.

    Raises:
        BadConfig: the memory does not suffice; other errors raised inside pass through.
    """
    size, crop = config.batch_size, config.crop_px or "the whole grid"
    advice = "start anew with a smaller --batch-size or --crop, in another folder with --run"
    with _memory(f"out of memory on {device} with batches of {size} and crops of {crop}: {advice}"):
        yield


@contextmanager
def memory_for_validation(config: Config, device: torch.device) -> Iterator[None]:
    """Say how validation and the test, on whole images, get by with less memory, if there is too little.

    Raises:
        BadConfig: the memory does not suffice; other errors raised inside pass through.
    """
    height, width = config.input.grid
    advice = (
        "close what else uses it, and the same command goes on; "
        "or start anew with a smaller --input, in another folder with --run"
    )
    with _memory(f"out of memory on {device} in validation or the test, on a grid of {height} × {width}: {advice}"):
        yield


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Say what to do about a full disk.

    Raises:
        OSError: the same error, with that advice; other errors raised inside pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        advice = "make room there, and the same command goes on from the last finished epoch"
        raise OSError(error.errno, f"{error.strerror}: {advice}", error.filename) from error


@contextmanager
def _memory(message: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if is_out_of_memory(error):
            raise BadConfig(message) from error
        raise

"""From a published checkpoint to an engine that is verified, compared with its probe and warm.

Files are read and hashed in a thread of their own; everything that runs a network is done in the device's thread. A
second thread that has called the network keeps a second team of OpenMP threads, and if there are more of these than
cores, they sleep at every barrier instead of spinning. On two cores a 256×256 image took 18 ms with two teams, and 13
ms with one.
"""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from service.engine.device import Device
from service.engine.engine import Engine, EngineThatPrepares, checked_predict, side_by_side
from service.engine.memory import is_out_of_memory
from service.engine.own_thread import in_own_thread
from service.engine.steps import Steps, in_turns
from service.store.card import Card
from service.store.checkpoint import Checkpoint, Contents

log = logging.getLogger(__name__)

MakeEngine = Callable[[Card, Contents], Steps[Engine]]
"""Builds an engine from a card and its contents, whose digests are the card's, and compares it with its probe."""


async def read(open_checkpoint: Callable[[], Checkpoint]) -> tuple[Card, Contents]:
    """Return a checkpoint's card and contents, once their digests are known to be right.

    Raises:
        BadCheckpoint: a file is missing, unreadable or damaged.
        Exception: whatever else `open_checkpoint` raises.
    """
    return await in_own_thread(partial(_read, open_checkpoint))


async def warm_up(engine: Engine, device: Device, max_batch_size: int) -> dict[int, float]:
    """Run batches of 1, 2, 4 … and the largest size, so that no caller pays for a first run.

    Returns the seconds of each size, without the engine's one-off preparation for it. The largest size is the largest
    that the device's memory holds: `max_batch_size`, or the largest of the others that ran. An engine with slots runs
    every batch tile by tile, so one tile, and two for each slot, tell all that a larger batch could.

    Raises:
        EngineFailed: the engine cannot be run, or its answers break the contract.
    """
    return await in_turns(_warming(engine, max_batch_size), device)


def _read(open_checkpoint: Callable[[], Checkpoint]) -> tuple[Card, Contents]:
    checkpoint = open_checkpoint()
    return checkpoint.card, checkpoint.contents()


def _warming(engine: Engine, max_batch_size: int) -> Steps[dict[int, float]]:
    height, width = engine.card.input.grid
    blank = np.zeros((height, width, 3), np.uint8)
    took: dict[int, float] = {}
    beside = side_by_side(engine)
    sizes = _batch_sizes(max_batch_size) if beside is None else sorted({1, min(2 * beside.slots, max_batch_size)})
    for size in sizes:
        try:
            if isinstance(engine, EngineThatPrepares):
                engine.prepare(size)
            began = time.perf_counter()
            checked_predict(engine, [blank] * size)
        except Exception as error:
            if not took or not is_out_of_memory(error):
                raise
            fits = max(took)
            log.warning("%s: batches hold %d at most, memory has no room for %d", engine.card.modality, fits, size)
            return took
        took[size] = time.perf_counter() - began
        yield
    return took


def _batch_sizes(largest: int) -> Iterator[int]:
    """Yield 1, 2, 4 … up to `largest`, which is the last."""
    yield from (1 << bit for bit in range((largest - 1).bit_length()))
    yield largest

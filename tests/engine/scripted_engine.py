"""An engine for the batcher's tests: multiplies by ten, remembers every call, fails as told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from service.engine.batcher import Answer, Batcher, BatchReport
from service.engine.device import Device
from service.errors import Unavailable
from tests.engine.virtual_time import VirtualExecutor, now


class ScriptedEngine:
    """Items are ints. `raises` maps an item to what a batch with it raises; more than `room` items: no memory."""

    def __init__(self, raises: dict[int, BaseException] | None = None, room: int = 1000) -> None:
        self.raises = raises or {}
        self.room = room
        self.batches: list[list[int]] = []

    @property
    def items(self) -> list[int]:
        """Every item that was in any call, once for each call."""
        return [item for batch in self.batches for item in batch]

    def run(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if len(items) > self.room:
            raise MemoryError
        for item in items:
            if item in self.raises:
                raise self.raises[item]
        return [10 * item for item in items]


@asynccontextmanager
async def serving(
    run: Callable[[Sequence[int]], Sequence[int]],
    *,
    seconds: float = 1.0,
    max_size: int = 8,
    max_wait_s: float = 0.0,
    max_queued: int = 64,
    on_batch: Callable[[BatchReport], None] = lambda report: None,
) -> AsyncIterator[Batcher[int, int]]:
    """A batcher in virtual time, on a device that is known to take `seconds` for a batch of any size."""
    device = Device("virtual", executor=VirtualExecutor(seconds), clock=now)
    batcher = Batcher(
        run,
        device=device,
        max_size=max_size,
        max_wait_s=max_wait_s,
        max_queued=max_queued,
        first_costs={1: seconds, 2: seconds},
        on_batch=on_batch,
        clock=now,
    )
    async with device, batcher:
        yield batcher


Call = asyncio.Task[Answer[int]]


def ask(batcher: Batcher[int, int], items: Iterable[int], *, deadline: float | None = None) -> Call:
    """Let one caller submit `items`, beside the test."""
    return asyncio.create_task(batcher.submit(list(items), deadline=deadline))


def has_room(batcher: Batcher[int, int]) -> bool:
    """Say whether an upload that came now would be admitted."""
    try:
        batcher.admit(None)
    except Unavailable:
        return False
    return True


async def outcomes(calls: Iterable[Call]) -> list[list[int] | BaseException]:
    """Wait for the calls; give the results, or the error, of each."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    return [end if isinstance(end, BaseException) else end.results for end in ends]

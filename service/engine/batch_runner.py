"""Runs one batch until each of its items is answered, whatever the engine does. Knows no queue."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from service.engine.device import Device
from service.engine.memory import is_out_of_memory, release
from service.engine.pending import Item, Part, Result
from service.errors import AlnetError, EngineFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One call of the engine: how many items, how many seconds, and whether it failed."""

    size: int
    ran_s: float
    failed: bool


class BatchRunner(Generic[Item, Result]):
    """Calls `run` on the `device`, whose turn the caller holds.

    - `run` raises: the batch is halved and run again, in the end one by one, so that only an item that cannot be run
      fails, and only its own upload with it. One such item among n costs at most 2 ⌈log₂ n⌉ more calls.
    - `run` runs out of memory: the same, and batches stay that small from then on (`max_size`).
    - `run` gives a wrong number of results: nobody can tell whose they are, so all in the batch get EngineFailed.

    `on_batch` is told of every call, and must raise nothing.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        device: Device,
        max_size: int,
        on_batch: Callable[[BatchReport], None],
        clock: Callable[[], float],
    ) -> None:
        self._run, self._device, self._on_batch, self._clock = run, device, on_batch, clock
        self._max_size = max_size

    @property
    def max_size(self) -> int:
        """Most items in a batch: as constructed or widened to, or fewer once the device has run out of memory."""
        return self._max_size

    def widen(self, max_size: int) -> None:
        """Let batches hold up to `max_size` items from now on, if that is more than before: there is room for them."""
        self._max_size = max(self._max_size, max_size)

    async def answer(self, batch: Sequence[Part[Item, Result]]) -> list[Part[Item, Result]]:
        """Run the batch; return once each of its items has a result, has failed its upload, or is no longer wanted.

        Returns the items that were still wanted when it began.

        Raises:
            DeviceLost: the device is lost; the callers are not answered yet.
        """
        begun = [part for part in batch if part.is_wanted]
        portions = [begun]  # a stack: the first half comes first, so that results arrive in order
        while portions:
            portion = [part for part in portions.pop() if part.is_wanted]
            if portion and not await self._attempt(portion):
                middle = len(portion) // 2
                portions += [portion[middle:], portion[:middle]]
        return begun

    async def _attempt(self, portion: Sequence[Part[Item, Result]]) -> bool:
        """Run `portion` as one batch and answer its callers; return False if it must be halved instead."""
        if len(portion) > self._max_size:  # memory ran out on the other half
            return False
        items = [part.item for part in portion]
        started = self._clock()
        try:
            results = await self._device.run(lambda: list(self._run(items)))
        except Exception as error:
            self._account(portion, started, failed=True)
            if self._device.failed is not None:
                raise
            return self._fail_alone(portion, error)
        self._account(portion, started, failed=len(results) != len(portion))
        _deliver(results, portion)
        return True

    def _account(self, portion: Sequence[Part[Item, Result]], started: float, *, failed: bool) -> None:
        """Note the time that the attempt took, before its callers are answered."""
        ran_s = self._clock() - started
        for upload in {part.upload for part in portion}:
            upload.ran_s += ran_s
        self._on_batch(BatchReport(len(portion), ran_s, failed))

    def _fail_alone(self, portion: Sequence[Part[Item, Result]], error: Exception) -> bool:
        """Fail the upload of an item that ran alone and return True; return False if it had mates."""
        release(error)
        if len(portion) == 1:
            portion[0].upload.fail(error if isinstance(error, AlnetError) else engine_failed(error))
            return True
        if is_out_of_memory(error):
            self._max_size = len(portion) - len(portion) // 2
            logger.warning("out of memory with %d items; batches now hold %d at most", len(portion), self._max_size)
        return False


def _deliver(results: Sequence[Result], portion: Sequence[Part[Item, Result]]) -> None:
    if len(results) != len(portion):
        for part in portion:
            part.upload.fail(EngineFailed(f"the network gave {len(results)} results for {len(portion)} images"))
        return
    for part, result in zip(portion, results, strict=True):
        part.upload.receive(part.index, result, batch_size=len(portion))


def engine_failed(error: Exception) -> EngineFailed:
    """Return the error for the caller of an item on which the engine raised `error`."""
    failed = EngineFailed(f"the network could not be run on this image ({type(error).__name__})")
    failed.__cause__ = error
    return failed

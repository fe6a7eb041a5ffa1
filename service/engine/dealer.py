"""Deals a batch out, one item to each part of the device that comes free, and answers each as soon as it is done.

For engines that gain nothing by running items together (SideBySide). Nobody waits for the slowest of a batch: its
results leave one by one, and when its last item has begun, the next batch may be dealt out, so that no part of the
device stands idle at the end of a batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

from service.engine.batch_runner import BatchReport, engine_failed
from service.engine.device import Device
from service.engine.memory import release
from service.engine.pending import Item, Part, Result
from service.engine.slots import SideBySide
from service.errors import AlnetError


@dataclass(slots=True)
class _Hand:
    """What becomes of one batch: how many of its items still run, and when the first of them began."""

    size: int
    waited_s: float = 0.0
    began: float | None = None
    running: int = 0
    is_dealt: bool = False
    failed: bool = False


class Dealer(Generic[Item, Result]):
    """Runs single items of batches on the `device`, whose turn the caller of `deal` holds.

    An item that fails alone fails its upload, and nobody else's. `on_batch` hears of every batch once its last item is
    through: its seconds are those from the first one's start to the last one's end.
    """

    def __init__(
        self,
        engine: SideBySide[Item, Result],
        *,
        device: Device,
        on_batch: Callable[[BatchReport], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine, self._device, self._on_batch, self._clock = engine, device, on_batch, clock

    async def deal(self, batch: Sequence[Part[Item, Result]], tasks: asyncio.TaskGroup) -> None:
        """Begin each item that is still wanted when a part of the device comes free; return once all have begun.

        They go on in `tasks`. If the device is lost, one of these raises DeviceLost; the callers are not answered yet.
        """
        hand, slots = _Hand(len(batch)), self._device.slots
        for part in batch:
            await slots.fewer_than(self._engine.slots)
            if part.is_wanted:
                self._begin(part, hand)
                tasks.create_task(self._run(part, hand)).add_done_callback(lambda _: slots.give_back())
        hand.is_dealt = True
        self._report(hand)

    def _begin(self, part: Part[Item, Result], hand: _Hand) -> None:
        now = self._clock()
        if hand.began is None:
            hand.began, hand.waited_s = now, now - part.upload.arrived
        hand.running += 1
        self._device.slots.take()
        part.upload.start(now)

    async def _run(self, part: Part[Item, Result], hand: _Hand) -> None:
        try:
            result = await self._device.run_beside(partial(self._engine.run, part.item))
        except Exception as error:
            hand.failed = True
            if self._device.failed is not None:
                raise
            release(error)
            part.upload.fail(error if isinstance(error, AlnetError) else engine_failed(error))
        else:
            part.upload.stop(self._clock())
            part.upload.receive(part.index, result, batch_size=hand.size)
        finally:
            hand.running -= 1
            self._report(hand)

    def _report(self, hand: _Hand) -> None:
        if hand.is_dealt and not hand.running and hand.began is not None:
            self._on_batch(BatchReport(hand.size, hand.waited_s, self._clock() - hand.began, hand.failed))

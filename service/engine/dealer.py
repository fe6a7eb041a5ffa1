"""Deals a batch out, one item to each part of the device that comes free, and answers each as soon as it is done.

For engines that gain nothing by running items together (SideBySide). Nobody waits for the slowest item of a batch:
results leave one by one, and once the last item has begun, the next batch may be dealt out, so that no part of the
device stands idle at the end of a batch.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from service.engine.batch_runner import BatchReport, engine_failed
from service.engine.device import Device
from service.engine.memory import is_out_of_memory, release
from service.engine.pending import Item, Part, Result
from service.engine.slots import SideBySide
from service.errors import AlnetError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Hand(Generic[Item, Result]):
    """The progress of one batch of `size`: which items have begun, how many still run, when the first of them began."""

    size: int
    begun: list[Part[Item, Result]] = field(default_factory=list)
    began: float | None = None
    running: int = 0
    is_dealt: bool = False
    failed: bool = False


class Dealer(Generic[Item, Result]):
    """Runs single items of batches on the `device`, whose turn the caller of `deal` holds.

    An item that fails takes down its own upload and no other. If memory has no room for it beside others, it runs once
    more, alone, and fewer items run side by side from then on. `on_batch` is told of every batch once its last item is
    done: how many items were begun, and the seconds from the first one's start to the last one's end.

    A turn is charged not for the time it lasts, in which others' items run too, but for the items begun in it, each for
    the time on its part of the device: at first for what the last item took, and for the difference once the item is
    done. `charge` takes these seconds; negative ones are given back.
    """

    def __init__(
        self,
        engine: SideBySide[Item, Result],
        *,
        device: Device,
        charge: Callable[[float], None],
        on_batch: Callable[[BatchReport], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine, self._device, self._on_batch, self._clock = engine, device, on_batch, clock
        self._charge = charge
        self._most = engine.slots
        """Most items that run side by side: the engine's slots, or fewer once memory has run out."""
        self._last_s = 0.0
        """Device seconds of the last item: the time it took, divided by the number of parts of the device."""

    async def deal(self, batch: Sequence[Part[Item, Result]], tasks: asyncio.TaskGroup) -> list[Part[Item, Result]]:
        """Begin each item that is still wanted as a part of the device comes free; once all have begun, return them.

        They go on running in `tasks`. If the device is lost, one of the tasks raises DeviceLost; the callers are not
        answered yet.
        """
        hand: _Hand[Item, Result] = _Hand(len(batch))
        turn_began = self._clock()
        for part in batch:
            while self._device.slots.taken >= self._most:  # `_most` may be less after the wait
                await self._device.slots.fewer_than(self._most)
            if part.is_wanted:
                charged_s = self._begin(part, hand)
                running = self._in_slot(part, hand, tasks, charged_s=charged_s)
                tasks.create_task(running).add_done_callback(self._give_back)
        self._charge(turn_began - self._clock())
        hand.is_dealt = True
        self._report(hand)
        return hand.begun

    def _begin(self, part: Part[Item, Result], hand: _Hand[Item, Result]) -> float:
        """Count one more running item, and return what the turn is charged for it until it is done."""
        if hand.began is None:
            hand.began = self._clock()
        hand.begun.append(part)
        hand.running += 1
        self._device.slots.take()
        self._charge(self._last_s)
        return self._last_s

    def _give_back(self, _ended: asyncio.Task[None]) -> None:
        self._device.slots.give_back()

    async def _in_slot(
        self, part: Part[Item, Result], hand: _Hand[Item, Result], tasks: asyncio.TaskGroup, *, charged_s: float
    ) -> None:
        began = self._clock()
        try:
            await self._run(part, hand, self._device.run_beside)
        except _NoRoom:
            self._use_fewer_slots()
            hand.running += 1
            tasks.create_task(self._alone(part, hand))  # another task, since this one has a slot until it ends
        finally:
            self._last_s = (self._clock() - began) / self._most
            self._charge(self._last_s - charged_s)
            hand.running -= 1
            self._report(hand)

    async def _alone(self, part: Part[Item, Result], hand: _Hand[Item, Result]) -> None:
        try:
            async with self._device.turns.share():
                await self._device.slots.fewer_than(1)
                if part.is_wanted:
                    await self._run(part, hand, self._device.run)
        except _NoRoom as error:
            part.upload.fail(_told(error.reason))
        finally:
            hand.running -= 1
            self._report(hand)

    async def _run(
        self,
        part: Part[Item, Result],
        hand: _Hand[Item, Result],
        run: Callable[[Callable[[], Result]], Awaitable[Result]],
    ) -> None:
        """Run one item and answer it.

        Raises:
            _NoRoom: memory ran out; the item is not answered.
            DeviceLost: the device is lost; the item is not answered.
        """
        part.upload.start(self._clock())
        try:
            result = await run(partial(self._engine.run, part.item))
        except Exception as error:
            part.upload.stop(self._clock())
            hand.failed = True
            if self._device.failed is not None:
                raise
            release(error)
            if is_out_of_memory(error):
                raise _NoRoom(error) from None
            part.upload.fail(_told(error))
        else:
            part.upload.stop(self._clock())
            part.upload.receive(part.index, result, batch_size=hand.size)

    def _use_fewer_slots(self) -> None:
        if (fewer := max(1, min(self._most, self._device.slots.taken - 1))) < self._most:
            logger.warning("out of memory with %d side by side; from now on there are %d", self._most, fewer)
            self._most = fewer

    def _report(self, hand: _Hand[Item, Result]) -> None:
        if hand.is_dealt and not hand.running and hand.began is not None:
            self._on_batch(BatchReport(len(hand.begun), self._clock() - hand.began, hand.failed))


class _NoRoom(Exception):
    """Memory ran out, as the error `reason` says; whether a caller is told is decided later."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


def _told(error: Exception) -> AlnetError:
    return error if isinstance(error, AlnetError) else engine_failed(error)

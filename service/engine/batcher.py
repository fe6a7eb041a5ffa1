"""Many callers, one call: gathers uploads into batches for a device. Knows no tensors, no images, no HTTP.

A batch leaves as soon as the device is free, with everything that has arrived by then (continuous batching). The one
exception: it waits a little for callers who should be back at once, if Mates says that this pays.

An engine that runs items side by side instead of together (SideBySide) has its batches dealt out item by item, and they
never wait. An upload that arrives alone at an idle device is still run as a batch of one, with the whole device.

Batches hold up to `max_size` items, unless a smaller size is measured to cost less per item. While other batchers use
the device, batches hold no more than runs in `QUANTUM_S`, so that one upload of theirs does not wait for many of ours.

Every upload is answered exactly once: with its results, with an error, or not at all because its caller has left.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Generic, Self

from service.engine.batch_runner import BatchReport, BatchRunner
from service.engine.cost_curve import CostCurve
from service.engine.dealer import Dealer
from service.engine.device import Device
from service.engine.drain import Drain
from service.engine.fair_turn import QUANTUM_S
from service.engine.mates import Mates
from service.engine.pending import Answer, Item, Part, Pending, Result
from service.engine.recent_batches import RecentBatches
from service.engine.round_robin import RoundRobin
from service.engine.slots import SideBySide
from service.errors import DeadlineExceeded, DeviceLost, Overloaded, ShuttingDown

__all__ = ["Answer", "BatchReport", "Batcher", "too_late"]

ITEMS_AN_UPLOAD = 16
"""Limit on the items held in all: this many for each upload that may wait. A large picture has over a hundred, and many
large pictures would take gigabytes."""

logger = logging.getLogger(__name__)


class Batcher(Generic[Item, Result]):
    """Callers await `submit`; `run` is called on the `device` with at most `max_size` items, from any of the callers.

    Items are taken in turns, one from each waiting upload, so that a large upload does not starve small ones. An async
    context manager: leaving it answers what is queued and refuses new work. If leaving is cancelled (the time to drain
    is over), those still waiting get ShuttingDown at once.

    BatchRunner decides what happens when a batch fails. If the device is lost, every caller gets DeviceLost, and so do
    new ones. A batcher that itself fails gives the device up: better that the process is replaced than that one
    modality is gone for good. `on_batch` is told of every call of `run`. `first_costs` are the seconds that batches of
    some sizes took, if any were run before. `clock` tells the event loop's time, but more finely: uvloop's own clock
    advances in steps of a millisecond.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        side_by_side: SideBySide[Item, Result] | None = None,
        device: Device,
        max_size: int,
        max_wait_s: float,
        max_queued: int,
        first_costs: Mapping[int, float] | None = None,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What is passed on holds no reference to the batcher: in a cycle, what a replaced version has on the device
        # would be freed by whichever thread collects garbage.
        self._costs = CostCurve(first_costs)
        told = partial(_tell, on_batch)
        note = partial(_note, self._costs, on_batch)
        self._runner = BatchRunner(run, device=device, max_size=max_size, on_batch=note, clock=clock)
        self._device, self._share, self._clock = device, device.turns.share(), clock
        self._dealer: Dealer[Item, Result] | None = None
        if side_by_side is not None:
            charge = self._share.charge
            self._dealer = Dealer(side_by_side, device=device, charge=charge, on_batch=told, clock=clock)
        self._max_queued = max_queued
        self._waiting: RoundRobin[Pending[Item, Result]] = RoundRobin()
        self._unanswered: set[Pending[Item, Result]] = set()
        self._recent = RecentBatches()
        self._mates = Mates(self._recent, self._costs, max_wait_s)
        self._drain = Drain(self._costs)
        self._advised_at, self._advice_s = (-1, 0, 0), 0.0
        self._changed = asyncio.Event()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        self._task = asyncio.create_task(self._serve(), name=f"batcher on {self._device.name}")
        self._task.add_done_callback(self._end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_intake()
        try:
            await asyncio.wait([self._task])
        finally:
            self._task.cancel()  # without effect, unless the wait was cancelled
            await asyncio.wait([self._task])

    def close_intake(self) -> None:
        """Refuse new work from now on; what is queued is still answered."""
        self._open = False
        self._changed.set()

    @property
    def queued(self) -> int:
        """Uploads that wait: at least one of their items has not been taken into a batch yet."""
        return len(self._waiting)

    @property
    def max_size(self) -> int:
        """Most items in a batch: as constructed or widened to, or fewer once the device has run out of memory."""
        return self._runner.max_size

    def widen(self, max_size: int) -> None:
        """Let batches hold up to `max_size` items from now on, if that is more than before: there is room for them."""
        self._runner.widen(max_size)

    def admit(self, deadline: float | None, *, ahead: int = 0) -> None:
        """Return if `submit` would queue an upload arriving now, behind `ahead` others that are still on their way.

        Raises:
            DeadlineExceeded, Overloaded, ShuttingDown, DeviceLost: as `submit` does.
        """
        if deadline is not None and deadline <= self._clock():
            raise too_late()
        self._device.check()
        if not self._open:
            raise ShuttingDown("this replica takes no new work; another one may")
        if (waiting := self.queued + ahead) >= self._max_queued:
            raise _overloaded(f"{waiting} uploads wait already", self._until_place_s(ahead))

    def _until_place_s(self, ahead: int) -> float:
        """Return the seconds until a full queue has room; kept until it changes, since a burst has many to refuse."""
        if self._advised_at != (state := (ahead, self._waiting.changes, self._drain.batches)):
            left = [self._waiting.turns(upload) for upload in self._waiting]
            self._advice_s = self._drain.until_place_s(left, ahead=ahead, largest=self._largest())
            self._advised_at = state
        return self._advice_s

    async def submit(
        self, items: Sequence[Item], *, deadline: float | None = None, since: float | None = None
    ) -> Answer[Result]:
        """Return the results for the `items` of one upload, in order. An upload is admitted whole or refused at once.

        Work on it began at `since`, by default now. A caller who is cancelled, or whose `deadline` passes, costs nobody
        anything: items not yet begun are never run, and the results of running ones are dropped. `since` and `deadline`
        are times of the event loop's clock.

        Raises:
            ValueError: `items` is empty.
            DeadlineExceeded: the deadline has passed; raised at that moment, even while a batch runs.
            Overloaded: `max_queued` uploads wait already, or more than `max_queued` × ITEMS_AN_UPLOAD items would be
                held in all; a lone upload may have any number. `retry_after_s` says when to come back.
            ShuttingDown: the batcher is closed, or the time to drain is over.
            DeviceLost: the device is lost, or the batcher itself has failed.
            EngineFailed: `run` raised on one of the items (that error is chained), or gave a wrong number of results.
            AlnetError: `run` raised this error on one of the items.
        """
        if len(items) == 0:
            raise ValueError("an upload needs at least one item")
        self.admit(deadline)
        self._check_room(len(items))
        loop = asyncio.get_running_loop()
        now = self._clock()
        began = now if since is None else since
        upload: Pending[Item, Result] = Pending(tuple(items), loop.create_future(), now, began)
        self._recent.upload_came(upload.arrived)
        timer = None if deadline is None else loop.call_at(deadline, upload.fail, too_late())
        self._unanswered.add(upload)
        self._waiting.add(upload, len(items))
        self._changed.set()
        try:
            return await upload.answer
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.discard(upload)
            self._unanswered.discard(upload)

    def _check_room(self, items: int) -> None:
        """Return if this many more `items` may be held; else raise Overloaded."""
        held = sum(len(upload.items) for upload in self._unanswered)
        excess = held + items - ITEMS_AN_UPLOAD * self._max_queued
        if held and excess > 0:
            of_each = [(self._waiting.turns(upload), len(upload.items)) for upload in self._unanswered]
            retry_after_s = self._drain.until_freed_s(of_each, items=excess, largest=self._largest())
            raise _overloaded(f"{held} pieces of other uploads wait already, and this has {items}", retry_after_s)

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as running:
            while await self._work_waits():
                await self._mates_wait()
                async with self._share:
                    await self._run_batch(running)

    async def _run_batch(self, running: asyncio.TaskGroup) -> None:
        if self._dealer is None:
            await self._device.cleared(self._share)
        if not (batch := self._take()):
            return
        if self._dealer is not None and (len(batch) > 1 or self._device.slots.taken):
            begun = await self._dealer.deal(batch, running)
        else:
            begun = await self._runner.answer(batch)
        self._remember(begun)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Leave no caller unanswered, however the serving task has ended."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        was_left = task.cancelled() and not self._open
        if error is not None and not was_left:
            logger.error("the batcher on %s has failed", self._device.name, exc_info=error)
            self._device.fail(error, f"its batcher was ended by {type(error).__name__}")
        for upload in list(self._unanswered):
            upload.fail(self._stopped())

    def _stopped(self) -> DeviceLost | ShuttingDown:
        try:
            self._device.check()
        except DeviceLost as lost:
            return lost
        return ShuttingDown("the replica stopped first")

    async def _work_waits(self) -> bool:
        """Wait for an upload and return True; return False once the intake is closed and nothing is queued."""
        while self._open and not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return len(self._waiting) > 0

    async def _mates_wait(self) -> None:
        """Wait for more uploads while that pays; not while others have the device, since uploads gather then anyway."""
        if self._dealer is not None:
            return
        oldest = min(upload.arrived for upload in self._waiting)
        if self._device.turns.is_held or not self._waiting_pays(oldest):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._mates.give_up_at(oldest)):
                while self._open and self._waiting_pays(oldest):
                    self._changed.clear()
                    await self._changed.wait()

    def _waiting_pays(self, oldest: float) -> bool:
        room = self._largest()
        if not self._waiting or sum(map(self._waiting.turns, self._waiting)) >= room:
            return False
        return self._mates.are_worth_waiting_for(self._clock(), oldest=oldest, waiting=self.queued, room=room)

    def _largest(self) -> int:
        """Return how many items the next batch may hold."""
        largest = self._costs.best_size(self.max_size)
        return self._costs.most_within(QUANTUM_S, largest) if self._share.has_rivals else largest

    def _take(self) -> list[Part[Item, Result]]:
        """Form a batch: the next item of each waiting upload in turn, skipping uploads whose callers have left."""
        batch: list[Part[Item, Result]] = []
        now, largest = self._clock(), self._largest()
        while self._waiting and len(batch) < largest:
            upload = self._waiting.next()
            if not upload.answer.done():
                batch.append(upload.begin(now))
        return batch

    def _remember(self, batch: list[Part[Item, Result]]) -> None:
        if not batch:
            return
        ended = self._clock()
        self._recent.record(ended=ended, finished=sum(part.is_last for part in batch), waiting=len(self._waiting))
        self._drain.record(
            since=min(part.upload.since for part in batch),
            arrived=min(part.upload.arrived for part in batch),
            ended=ended,
            items=len(batch),
            uploads=sum(part.share for part in batch),
        )


def _note(costs: CostCurve, listener: Callable[[BatchReport], None], report: BatchReport) -> None:
    if not report.failed:
        costs.record(report.size, report.ran_s)
    _tell(listener, report)


def _tell(listener: Callable[[BatchReport], None], report: BatchReport) -> None:
    try:
        listener(report)
    except Exception:
        logger.exception("a listener to batches failed")


def too_late() -> DeadlineExceeded:
    """Return the error for a caller whose deadline has passed."""
    return DeadlineExceeded("the deadline passed before there was an answer; allow more time")


def _overloaded(what_waits: str, retry_after_s: float) -> Overloaded:
    return Overloaded(f"{what_waits}; try again in {math.ceil(retry_after_s)} s", retry_after_s=retry_after_s)

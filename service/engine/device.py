"""A device, which runs one batch at a time or single items side by side, in fair turns. No tensors."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from service.engine.device_loss import why_lost
from service.engine.fair_turn import FairTurns, Share
from service.engine.slots import Slots
from service.engine.submission import start_all, submit
from service.errors import DeviceLost, Overloaded

RETRY_AFTER_S = 10.0
"""When callers of a lost device are told to retry: about as long as a new process takes to load its checkpoints."""

MOST_BESIDE = 16
"""Threads for what runs side by side; they only wait for the engine's own threads."""

T = TypeVar("T")


@dataclass(slots=True)
class _Raised:
    """What work raised. The error's traceback leads to a frame that holds this object, until the error is taken out."""

    error: BaseException

    def take(self) -> BaseException:
        """Return the error, once: from then on, what its call held is freed along with it."""
        error = self.error
        del self.error
        return error


class Device:
    """One CPU or GPU, shared by the batchers of several modalities.

    Each batcher has a share of its `turns`, waits for its turn and then calls `run`:

        share = device.turns.share()
        ...
        async with share:
            batch = form()  # as late as possible: all that came while others had the device are in it
            await device.run(lambda: engine.predict(batch))

    Or it begins single items while it has the turn, each in one of the device's `slots`, and calls `run_beside` for
    each. The items may outlive the turn; `run` waits for them.

    It is an async context manager; leaving it ends the thread once its running work is done, without waiting for that.
    `executor` must run one thing at a time, `beside` several; by default they are threads of the device's own.

    A device that is lost stays lost: CUDA gives a process no second context after a fault such as a device-side assert.
    """

    def __init__(
        self,
        name: str,
        *,
        executor: Executor | None = None,
        beside: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.turns, self.slots = FairTurns(clock), Slots()
        self._clock = clock
        self._began: dict[object, float] = {}
        self._background_began: dict[object, float] = {}
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix=f"device-{name}")
        self._beside = beside or ThreadPoolExecutor(MOST_BESIDE, thread_name_prefix=f"device-{name}-beside")
        self._is_left = False
        self._failed: DeviceLost | None = None
        self._has_failed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left = True
        self._executor.shutdown(wait=False)
        self._beside.shutdown(wait=False)

    def start_threads(self) -> None:
        """Start all threads now, rather than in the event loop when there is work for them."""
        start_all(self._executor, 1)
        start_all(self._beside, MOST_BESIDE)

    @property
    def failed(self) -> DeviceLost | None:
        """Why the device is lost, and from which error; None while it works."""
        return self._failed

    @property
    def busy_s(self) -> float:
        """For how long the oldest of the batches that run now has been running; 0 if none runs."""
        return self._since_first(self._began)

    @property
    def background_s(self) -> float:
        """For how long the background step that runs now has been running; 0 if none runs."""
        return self._since_first(self._background_began)

    async def wait_failed(self) -> DeviceLost:
        """Wait until the device is lost; return what `failed` is from then on."""
        await self._has_failed.wait()
        assert self._failed is not None  # noqa: S101 -- `fail` sets both
        return self._failed

    def fail(self, error: BaseException, reason: str) -> None:
        """Give the device up because of `error`; `reason` may be shown to callers. Only the first time counts."""
        if self._failed is None:
            self._failed = DeviceLost(f"the device {self.name} is lost: {reason}", retry_after_s=RETRY_AFTER_S)
            self._failed.__cause__ = error
            self._has_failed.set()

    def check(self) -> None:
        """Return if the device works; else raise a DeviceLost made for this caller."""
        if self._failed is not None:
            raise DeviceLost(str(self._failed), retry_after_s=RETRY_AFTER_S) from self._failed.__cause__

    async def cleared(self, turn: Share) -> None:
        """Return once all that others began in slots has ended; `turn` is not charged for that wait."""
        began = self._clock()
        await self.slots.fewer_than(1)
        turn.charge(began - self._clock())

    async def run(self, work: Callable[[], T], *, in_background: bool = False) -> T:
        """Return what `work` returns; it is called in the device's thread, so the event loop goes on meanwhile.

        It has the device to itself: what was begun in slots ends first. `in_background` says that nobody waits for it.

        If cancelled before the thread begins it, `work` is not called; after that it runs to its end, and its result is
        dropped.

        Raises:
            Exception: whatever `work` raised.
            DeviceLost: the device is lost, now or before: `work` raised what `why_lost` recognises (a CUDA fault, a
                thread told to exit), or the thread no longer takes work.
            Overloaded: no thread can be started for it now.
        """
        await self.slots.fewer_than(1)
        return await self._run(self._executor, work, self._background_began if in_background else self._began)

    async def run_beside(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; it is called in a thread of its own, beside what runs in the other slots.

        The caller must have taken a slot while it had the turn. All else is as for `run`.
        """
        return await self._run(self._beside, work, self._began)

    async def _run(self, executor: Executor, work: Callable[[], T], began: dict[object, float]) -> T:
        self.check()
        try:
            running = submit(executor, partial(self._call, work, began))
        except RuntimeError as refusal:
            if self._is_left or isinstance(refusal, BrokenExecutor):
                self.fail(refusal, "its thread takes no work any more")
                self.check()
            raise Overloaded("this replica can start no thread for it now; try again") from refusal
        outcome = await asyncio.wrap_future(running)
        if not isinstance(outcome, _Raised):
            return outcome
        error = outcome.take()
        try:
            if reason := why_lost(error):
                self.fail(error, reason)
                self.check()
            raise error
        finally:
            del error  # its traceback holds this frame

    def _call(self, work: Callable[[], T], began: dict[object, float]) -> T | _Raised:
        """Call `work`, catching what no future can carry: StopIteration or CancelledError would hang its waiter."""
        mark = object()
        began[mark] = self._clock()
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - handed over to the waiter, whatever it is
            return _Raised(error)
        finally:
            del began[mark]

    def _since_first(self, began: dict[object, float]) -> float:
        times = list(began.values())  # copied in one go: threads add and remove entries
        return self._clock() - min(times) if times else 0.0

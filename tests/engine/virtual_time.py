"""Hours of waiting in milliseconds: an event loop whose clock jumps, and a device whose work takes virtual seconds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HangError(AssertionError):
    """Nothing will ever happen again, and yet the test has not ended: somebody was left hanging."""


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise HangError("every task waits for something that no one will do")
            self.now += max(timeout, 0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at time 0. When all tasks wait, the clock jumps to the next timer; without a timer it raises HangError."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` in virtual time; fail if it leaves a task behind, or if what the loop calls raises."""
    faults: list[dict[str, Any]] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        faults.extend([context] if "handle" in context else [])

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(note)
        result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left behind: {left}"
        assert not faults, f"raised in callbacks: {faults}"
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(watched())


def now() -> float:
    """The virtual time, as the batcher's `clock`."""
    return asyncio.get_running_loop().time()


class VirtualExecutor(Executor):
    """Runs one thing at a time, each for `seconds`; what it computes is computed at the end of that time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_busy = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = self._begin(fn)
        asyncio.get_running_loop().call_later(self.seconds, lambda: self._end(future, fn(*args, **kwargs)))
        return future

    def _begin(self, _: Callable[P, T]) -> Future[T]:
        assert not self.is_busy, "two batches at once on one device"
        self.is_busy = True
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        return future

    def _end(self, future: Future[T], result: T) -> None:
        self.is_busy = False
        future.set_result(result)


class SpendingExecutor(VirtualExecutor):
    """Runs one thing at a time, each for the seconds that it says it spends; its result is there at the end of them."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def spend(self, seconds: float) -> None:
        """Let the work from which this is called last so long."""
        self.seconds += seconds

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future, self.seconds = self._begin(fn), 0.0
        result = fn(*args, **kwargs)
        asyncio.get_running_loop().call_later(self.seconds, self._end, future, result)
        return future


class SlotsExecutor(Executor):
    """Runs so many things side by side, each for the seconds that it says it spends, but never beside `alone`."""

    def __init__(self, slots: int, alone: VirtualExecutor, seconds: float = 0.0) -> None:
        self.slots, self.alone, self.usual = slots, alone, seconds
        self.running = self.most = 0
        self._seconds = 0.0

    def spend(self, seconds: float) -> None:
        """Let the work from which this is called last so long."""
        self._seconds += seconds

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        assert not self.alone.is_busy, "an item beside a batch that has the device to itself"
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.running <= self.slots, "more items than slots"
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._seconds = self.usual
        result = fn(*args, **kwargs)
        asyncio.get_running_loop().call_later(self._seconds, self._end, future, result)
        return future

    def _end(self, future: Future[T], result: T) -> None:
        self.running -= 1
        future.set_result(result)

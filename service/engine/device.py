"""A device runs one batch at a time: one thread, and a fair line of those who want it. Knows no tensors."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from service.errors import NotReady

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class Device:
    """One CPU or GPU, shared by the batchers of several modalities.

    Whoever wants it holds its `turn` (a lock that is given out first come, first served) and then calls `run`:

        async with device.turn:
            batch = form()  # as late as possible: all that came while others had the device are in it
            await device.run(lambda: engine.predict(batch))

    It is an async context manager; leaving it ends the thread once its running work is done, without waiting for that.
    `executor` must run one thing at a time; by default it is a thread of the device's own.
    """

    def __init__(self, name: str, *, executor: Executor | None = None) -> None:
        self.name = name
        self.turn = asyncio.Lock()
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix=f"device-{name}")
        self._failed: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False)

    @property
    def failed(self) -> BaseException | None:
        """What ended the device for good; None while it works."""
        return self._failed

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; it is called in the device's thread, so the event loop goes on meanwhile.

        Cancelled before the thread has begun, `work` is not called; after that it runs to its end, unheard.

        Raises:
            Exception: whatever `work` raised.
            NotReady: the device has failed, now or before: `work` raised a BaseException that is no Exception (a thread
                told to exit), or the thread takes no work any more.
        """
        if self._failed is not None:
            raise self._lost() from self._failed
        try:
            running = self._executor.submit(_call, work)
        except RuntimeError as error:  # its executor was shut down or is broken
            self._failed = error
            raise self._lost() from error
        outcome = await asyncio.wrap_future(running)
        if not isinstance(outcome, _Raised):
            return outcome
        if isinstance(outcome.error, Exception):
            raise outcome.error
        self._failed = outcome.error
        raise self._lost() from outcome.error

    def _lost(self) -> NotReady:
        return NotReady(f"the device {self.name} has stopped; this replica must be restarted")


def _call(work: Callable[[], T]) -> T | _Raised:
    """Catch what no future can carry: a StopIteration or CancelledError would leave its waiter hanging."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - handed over to the waiter, whatever it is
        return _Raised(error)

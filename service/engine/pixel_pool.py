"""Threads for work on pixels, in two lanes: what takes long never keeps short work waiting. Knows no pixels."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from service.engine.places import Places
from service.engine.submission import start_all, submit
from service.errors import Overloaded, ShuttingDown

LOWER_BY = 10
"""How much is added to the niceness of threads for long work: each has a tenth of the weight of any other thread. With
next to no weight (19), one that holds the interpreter's lock could keep all others waiting for it."""

T = TypeVar("T")


class PixelPool:
    """`threads` threads for short work, and `long` more (by default one fewer, but at least one) for work that is long.

    However much long work there is, short work waits only for other short work. On Linux the threads for long work
    leave the processor to all others of the process if there is not enough for all.

    A context manager: leaving it shuts it down.
    """

    def __init__(self, threads: int, *, long: int | None = None) -> None:
        long = max(1, threads - 1) if long is None else long
        self._short = ThreadPoolExecutor(threads, thread_name_prefix="pixels")
        self._long = ThreadPoolExecutor(long, thread_name_prefix="large-pixels", initializer=_lower_priority)
        self._places = Places(long)
        self._threads = ((self._short, threads), (self._long, long))
        self._is_shut_down = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut_down()

    def start_threads(self) -> None:
        """Start all threads now, rather than in the event loop when there is work for them."""
        for executor, threads in self._threads:
            start_all(executor, threads)

    def shut_down(self) -> None:
        """Refuse new work; what was taken on is done, but not waited for."""
        self._is_shut_down = True
        self._short.shutdown(wait=False)
        self._long.shutdown(wait=False)

    async def run(self, work: Callable[[], T], *, is_long: Callable[[], bool] = lambda: False, ends: bool = False) -> T:
        """Return what `work` returns; a thread for short work asks `is_long`, and does the work itself if it is not.

        Long work that `ends` something goes before all that begins something: what waits holds memory. If cancelled
        before a thread begins it, `work` is neither called nor kept; after that it runs to its end, and its result is
        dropped.

        Raises:
            Exception: whatever `work` or `is_long` raised.
            ShuttingDown: the pool was shut down.
            Overloaded: no thread can be started for it.
        """
        done = await self._in(self._short, lambda: None if is_long() else (work(),))
        if done is not None:
            return done[0]
        await self._places.take(ends=ends)
        return await self._in(self._long, work, on_done=_on_this_loop(self._places.give_back))

    async def _in(self, threads: Executor, work: Callable[[], T], on_done: Callable[[], None] = lambda: None) -> T:
        """Do `work` in one of the `threads`; `on_done` is called once it is done, or will not be done."""
        kept = [work]

        def begin() -> T:
            return kept.pop()()

        try:
            running = submit(threads, begin)
        except RuntimeError as error:
            on_done()
            if self._is_shut_down:
                raise ShuttingDown("this replica has stopped; another one may answer") from error
            raise Overloaded("this replica can start no thread for it now; try again") from error
        running.add_done_callback(lambda _: on_done())
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if running.cancel():
                kept.clear()  # the executor keeps what is cancelled until a thread is free: an upload of megabytes
            raise


def _on_this_loop(call: Callable[[], None]) -> Callable[[], None]:
    """Return what any thread may call to have `call` called on the event loop that runs now."""
    loop = asyncio.get_running_loop()

    def later() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(call)

    return later


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere it would apply to the whole process
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(LOWER_BY)

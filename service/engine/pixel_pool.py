"""Threads for work on pixels, in two lanes: what takes long never keeps short work waiting. Knows no pixels."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from service.engine.submission import submit
from service.errors import Overloaded, ShuttingDown

LOWER_BY = 10
"""How much nicer the threads for long work are than the process: each has a tenth of the weight of any other thread.
With next to none (19), one that holds the interpreter's lock could keep all others waiting for it."""

T = TypeVar("T")


class PixelPool:
    """`threads` threads for short work, and `long` more (by default one fewer, but at least one) for work that is long.

    However much long work there is, short work waits for other short work alone. On Linux the threads for long work
    leave the processor to all others of the process where there is not enough for all.

    A context manager: leaving it shuts it down.
    """

    def __init__(self, threads: int, *, long: int | None = None) -> None:
        self._short = ThreadPoolExecutor(threads, thread_name_prefix="pixels")
        self._long = ThreadPoolExecutor(
            max(1, threads - 1) if long is None else long,
            thread_name_prefix="large-pixels",
            initializer=_lower_priority,
        )
        self._is_shut_down = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Refuse new work; what was taken on is done, but not waited for."""
        self._is_shut_down = True
        self._short.shutdown(wait=False)
        self._long.shutdown(wait=False)

    async def run(self, work: Callable[[], T], *, is_long: Callable[[], bool] = lambda: False) -> T:
        """Return what `work` returns; a thread for short work asks `is_long` first, and does what is not long itself.

        Cancelled before a thread has begun, `work` is not called; after that it runs to its end, unheard.

        Raises:
            Exception: whatever `work` or `is_long` raised.
            ShuttingDown: the pool was shut down.
            Overloaded: no thread can be started for it.
        """
        done = await self._in(self._short, lambda: None if is_long() else (work(),))
        return await self._in(self._long, work) if done is None else done[0]

    async def _in(self, threads: Executor, work: Callable[[], T]) -> T:
        try:
            running = submit(threads, work)
        except RuntimeError as error:
            if self._is_shut_down:
                raise ShuttingDown("this replica has stopped; another one may answer") from error
            raise Overloaded("this replica can start no thread for it now; try again") from error
        return await asyncio.wrap_future(running)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere it would be the whole process's
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(LOWER_BY)

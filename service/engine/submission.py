"""Work for the threads of an executor, which either take it now or never do it. No tensors."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def start_all(executor: Executor, threads: int) -> None:
    """Start all the `threads` that an idle executor may have, so that nobody who submits work waits for one to start.

    That wait may be for ever: `Thread.start` never returns if the new thread finds no memory before it has reported.
    Threads that cannot be started now are left to be started as needed.
    """
    together = Event()
    try:
        with suppress(RuntimeError):
            for _ in range(threads):
                executor.submit(together.wait)
    finally:
        together.set()


def submit(executor: Executor, work: Callable[[], T]) -> Future[T]:
    """Return the future of `work`, as `Executor.submit` does; but work that is refused is neither done later nor kept.

    A ThreadPoolExecutor queues work before it starts a thread for it, and leaves it queued if none can be started. That
    would keep an image in memory for as long as this lasts.

    Raises:
        RuntimeError: the executor was shut down or is broken, or no thread can be started. If another thread has begun
            the work by then, it runs to its end, and its result is dropped.
    """
    leave: Future[None] = Future()
    kept = [work]

    def with_leave() -> T:
        if not leave.set_running_or_notify_cancel():
            raise CancelledError
        return kept.pop()()

    try:
        return executor.submit(with_leave)
    except RuntimeError:
        if leave.cancel():
            kept.clear()
        raise

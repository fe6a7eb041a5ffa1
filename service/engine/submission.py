"""Work for the threads of an executor, which take it or never do it. No tensors."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def start_all(executor: Executor, threads: int) -> None:
    """Start all the `threads` that an idle executor may have, so that nobody who submits work has to wait for one.

    That may be for ever: `Thread.start` never returns if the new thread finds no memory before it has said that it is
    there. Those that cannot be started now are left to be started as needed.
    """
    together = Event()
    try:
        with suppress(RuntimeError):
            for _ in range(threads):
                executor.submit(together.wait)
    finally:
        together.set()


def submit(executor: Executor, work: Callable[[], T]) -> Future[T]:
    """Return the future of `work`, as `Executor.submit` does; but what is refused is not done later, nor kept.

    A ThreadPoolExecutor queues work before it starts a thread for it, and leaves it there if none can be started: an
    image, for as long as that lasts.

    Raises:
        RuntimeError: the executor was shut down or is broken, or no thread can be started. If another thread has begun
            with the work by then, it runs to its end, unheard.
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

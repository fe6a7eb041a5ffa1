"""Work for the threads of an executor, which take it or never do it. No tensors."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import TypeVar

T = TypeVar("T")


def submit(executor: Executor, work: Callable[[], T]) -> Future[T]:
    """Return the future of `work`, as `Executor.submit` does; but what is refused is not done later after all.

    A ThreadPoolExecutor queues work before it starts a thread for it, and leaves it there if none can be started.

    Raises:
        RuntimeError: the executor was shut down or is broken, or no thread can be started. If another thread has begun
            with the work by then, it runs to its end, unheard.
    """
    leave: Future[None] = Future()

    def with_leave() -> T:
        if not leave.set_running_or_notify_cancel():
            raise CancelledError
        return work()

    try:
        return executor.submit(with_leave)
    except RuntimeError:
        leave.cancel()
        raise

"""Work that may hang, such as a read from a network disk: nothing else waits for it. No tensors."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T], name: str) -> T:
    """Return what `work` returns; it is called in a thread of its own, which has that `name`.

    A pool's threads could all hang, and then nobody else would have one; and a process waits for them before it ends.
    Cancelled, `work` goes on unheard.

    Raises:
        RuntimeError: no thread can be started.
        Exception: whatever `work` raised.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over to the waiter, whatever it is
            answer.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(answer)


@contextmanager
def told_after(seconds: float, tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` if the block takes longer than that; it goes on all the same."""
    timer = asyncio.get_running_loop().call_later(seconds, tell)
    try:
        yield
    finally:
        timer.cancel()

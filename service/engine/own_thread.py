"""Work that may hang, such as a read from a network disk: nothing else waits for it. No tensors."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

PROMPT_S = 0.02
"""What a reading may take before whoever asks is told the one before it."""


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


class Reading:
    """A number that `read` may take for ever to return, as where a driver hangs: it is read in a thread of its own."""

    def __init__(self, read: Callable[[], int], name: str, *, prompt_s: float = PROMPT_S) -> None:
        self._read, self._name, self._prompt_s = read, name, prompt_s
        self._last = 0
        self._reader: Thread | None = None

    def last(self) -> int:
        """Return the number, read now; or if that takes over `prompt_s`, as it was read last, and 0 before that."""
        if self._reader is None or not self._reader.is_alive():
            with suppress(RuntimeError):  # no thread can be started now
                self._reader = Thread(target=self._note, name=self._name, daemon=True)
                self._reader.start()
                self._reader.join(self._prompt_s)
        return self._last

    def _note(self) -> None:
        with suppress(RuntimeError):  # as CUDA's faults are
            self._last = self._read()

"""Work that may hang, such as a read from a network disk: nothing else waits for it. No tensors."""

import _thread
import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

PROMPT_S = 0.02
"""How long a reading may take before whoever asks is given the previous one."""

BEGINS_WITHIN_S = 10.0
"""How long until a thread that has not begun is taken for dead: one that finds no memory at its start says nothing."""


async def in_own_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns; it is called in a thread of its own.

    A pool's threads could all hang, leaving none for anybody else, and a process waits for them before it ends. If this
    is cancelled, `work` goes on, and its result is dropped.

    Raises:
        RuntimeError: no thread can be started, or none has begun in time; then `work` is not called.
        Exception: whatever `work` raised.
    """
    leave: Future[None] = Future()
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        if not leave.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over to the waiter, whatever it is
            answer.set_exception(error)

    def give_up() -> None:
        if leave.cancel():
            answer.set_exception(RuntimeError("a new thread has not begun: there may be no memory for it"))

    start(run)
    with told_after(BEGINS_WITHIN_S, give_up):
        return await asyncio.wrap_future(answer)


@contextmanager
def told_after(seconds: float, tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` if the block takes longer than `seconds`; the block goes on all the same."""
    timer = asyncio.get_running_loop().call_later(seconds, tell)
    try:
        yield
    finally:
        timer.cancel()


class Attempt:
    """`work` that may never end, called in a thread of its own, and never twice at a time."""

    def __init__(self, work: Callable[[], None], *, prompt_s: float = PROMPT_S) -> None:
        self._work, self._prompt_s = work, prompt_s
        self._last: Future[None] = Future()
        self._last.cancel()

    @property
    def is_under_way(self) -> bool:
        """Whether `work` has begun and is not over."""
        return self._last.running()

    def __call__(self) -> None:
        """Call `work`, unless it is under way; return once it is over, or after `prompt_s`."""
        if not self._last.done() and not self._last.cancel():  # a thread that has not begun may never do so
            return
        self._last = attempt = Future[None]()
        with suppress(RuntimeError, TimeoutError):  # RuntimeError: no thread can be started now
            start(partial(self._run, attempt))
            attempt.result(self._prompt_s)

    def _run(self, attempt: "Future[None]") -> None:
        if not attempt.set_running_or_notify_cancel():
            return  # it begins so late that another was started in its place
        try:
            self._work()
        finally:
            attempt.set_result(None)


class Reading:
    """A number that `read` may take for ever to return, as when a driver hangs: it is read in a thread of its own."""

    def __init__(self, read: Callable[[], int], *, prompt_s: float = PROMPT_S) -> None:
        self._read, self._last = read, 0
        self._attempt = Attempt(self._note, prompt_s=prompt_s)

    def last(self) -> int:
        """Return the number, read now; if that takes over `prompt_s`, the last one read, or 0 if there is none."""
        self._attempt()
        return self._last

    def _note(self) -> None:
        with suppress(RuntimeError):  # which CUDA's faults are
            self._last = self._read()


def start(run: Callable[[], None]) -> None:
    """Call `run` in a new thread, which the process does not wait for at its end; RuntimeError if none can be started.

    `Thread.start` would wait for the new thread to report, and never return if that thread finds no memory before it
    does: the event loop must not wait like that.
    """
    _thread.start_new_thread(run, ())

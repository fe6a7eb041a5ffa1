"""Ctrl-C ends a command with one line and an exit code of its own."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended: 128 plus the number of the signal."""

RUN_GOES_ON = "the same command goes on after the last finished epoch"


@contextmanager
def interruptible(what_is_left: str, is_told: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """On Ctrl-C in the block, exit with INTERRUPTED, after a line that says `what_is_left`, if `is_told()`."""
    try:
        yield
    except KeyboardInterrupt:
        if is_told():
            print(f"alnet: interrupted; {what_is_left}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None  # with its context, the command line would report it once more


@contextmanager
def ended_by_sigterm_alike() -> Iterator[None]:
    """In the block, let SIGTERM do what Ctrl-C does: schedulers send it at a time limit, and so does `timeout`."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)  # asyncio's own while it runs; none if a shell ignores SIGINT
    (on_interrupt if callable(on_interrupt) else signal.default_int_handler)(signal.SIGINT, frame)

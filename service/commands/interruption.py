"""What Ctrl-C makes of a command: one line, and an exit code of its own."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended: 128 and the number of its signal."""

RUN_GOES_ON = "the same command goes on after the last finished epoch"


@contextmanager
def interruptible(what_is_left: str, is_told: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """End the process at Ctrl-C in the block with INTERRUPTED, and a line on `what_is_left`, if it is to be told."""
    try:
        yield
    except KeyboardInterrupt:
        if is_told():
            print(f"alnet: interrupted; {what_is_left}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None  # its own context would make the command line tell it once more


@contextmanager
def ended_by_sigterm_alike() -> Iterator[None]:
    """Let SIGTERM do in the block what Ctrl-C does: a scheduler sends it at a time limit, and `timeout` does."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)  # asyncio's own, while it runs; none where a shell has it ignored
    (on_interrupt if callable(on_interrupt) else signal.default_int_handler)(signal.SIGINT, frame)

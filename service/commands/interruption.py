"""What Ctrl-C makes of a command: one line, and an exit code of its own."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

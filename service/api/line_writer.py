"""Writes the lines of a log in a thread of its own, so that a reader who stalls holds up nobody else."""

import logging
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TextIO

MOST_WAITING = 20_000
"""Lines that may wait to be written (some megabytes); any more are lost."""

GATHER_S = 0.02
"""How long lines wait for others before they are written. In a burst, a thread that woke for each line would take turns
at the interpreter's lock with the event loop."""

MOST_AT_ONCE = 500
"""Lines taken in one go, and written in a few system calls instead of one for each."""

LAST_LINES_S = 0.5
"""How long a process that ends waits for its last lines to be written."""

logger = logging.getLogger(__name__)


class LineWriter(logging.Handler):
    """Writes lines to a stream's file, in their order; whoever logs them never waits for its reader.

    Otherwise a full pipe, a stopped terminal or a hanging disk would stop the event loop at the next line, and with it
    every answer and the shutdown. The server's own log says once that lines are lost, and once that they are written
    again: `what` and `where` say there what the lines are and where they go. If the stream is None (its descriptor was
    closed before the process began), all lines are lost.
    """

    _is_open = False

    def __init__(self, stream: TextIO | None, *, what: str, where: str) -> None:
        super().__init__()
        self._what, self._where = what, where
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._put = self._done = self._lost = 0
        self._is_losing = False
        if stream is None:
            return
        stream.flush()
        # not through the stream: its lock, held by a write that hangs, would abort the interpreter's exit
        self._descriptor, self._encoding = stream.fileno(), stream.encoding
        threading.Thread(target=self._write_all, name=f"log to {where}", daemon=True).start()
        self._is_open = True

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line to be written soon; called with the handler's lock held."""
        if not self._is_open:
            self._lose(1, "it is closed")
        elif self._put - self._done >= MOST_WAITING:
            self._lose(1, "nobody reads it")
        else:
            try:
                line = self.format(record) + "\n"
            except Exception:  # noqa: BLE001 -- as other handlers: whoever logs goes on, whatever is wrong with the line
                self.handleError(record)
                return
            self._put += 1
            self._queue.put(line)

    def flush(self) -> None:
        """Return once all lines so far are written or lost, or after LAST_LINES_S."""
        ends_at = time.monotonic() + LAST_LINES_S
        while self._done < self._put and time.monotonic() < ends_at:
            time.sleep(0.002)

    def _write_all(self) -> None:
        while True:
            lines = [self._queue.get()]
            time.sleep(GATHER_S)
            while len(lines) < MOST_AT_ONCE and not self._queue.empty():
                lines.append(self._queue.get())
            try:
                for piece in _pieces(line.encode(self._encoding, "backslashreplace") for line in lines):
                    self._write(piece)
            except OSError as error:
                self._lose(len(lines), error)
            except MemoryError:
                self._lose(len(lines), "memory is short")
            else:
                self._recover()
            self._done += len(lines)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # someone who shares the file made it non-blocking
                select.select([], [self._descriptor], [])

    def _lose(self, lines: int, why: object) -> None:
        self._lost += lines
        if not self._is_losing:
            self._is_losing = True
            logger.error("%s are lost, %s cannot be written: %s", self._what, self._where, why)

    def _recover(self) -> None:
        if self._is_losing:
            lost, self._lost, self._is_losing = self._lost, 0, False
            logger.warning("%s can be written again; %d lines were lost", self._where, lost)


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines joined into pieces that a pipe takes whole: other processes may write to the same pipe."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece

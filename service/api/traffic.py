"""The uploads being answered at this moment, and how a draining server brings them to an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import ShuttingDown


class Traffic:
    """Counts uploads from their headers to their answer. Used on the event loop's thread only."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._ends_at: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """How many uploads are being received or answered."""
        return len(self._limits)

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._ends_at is not None

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Count one upload for as long as its answer is being made.

        Raises:
            ShuttingDown: the server drains, and the time to answer what it had accepted is over.
        """
        try:
            async with asyncio.timeout_at(self._ends_at) as limit:
                self._limits.add(limit)
                self._idle.clear()
                try:
                    yield
                finally:
                    self._leave(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ShuttingDown("this replica stopped before the answer was ready; send the upload again") from None

    def drain(self, timeout_s: float) -> None:
        """Let the uploads in flight go on for at most `timeout_s`; calling it again does not prolong that."""
        ends_at = asyncio.get_running_loop().time() + timeout_s
        if self._ends_at is not None and self._ends_at <= ends_at:
            return
        self._ends_at = ends_at
        for limit in self._limits:
            limit.reschedule(self._ends_at)

    async def wait_idle(self) -> None:
        """Return as soon as no upload is in flight."""
        await self._idle.wait()

    def _leave(self, limit: asyncio.Timeout) -> None:
        self._limits.discard(limit)
        if not self._limits:
            self._idle.set()

"""In a burst, uploads that are let in go on only once no more come, so that those that are refused need not wait."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

LONGEST_S = 0.05
"""However many more come, no upload that is let in waits for longer than this."""

QUIET_ROUNDS = 2
"""Rounds of the event loop without an upload that end a burst; what is read in one round is looked at in the next."""


class Lull:
    """Makes uploads wait until the event loop has gone round without a new one.

    An upload that is let in costs several times as much as one that is refused, and decoding it also takes the
    interpreter from the event loop. So all of a burst should be read before any of it is worked on. An upload that
    comes alone waits for two rounds of an idle loop: microseconds. Used on the event loop's thread only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came = 0
        self._over: asyncio.Event | None = None
        self._waiting: Counter[str] = Counter()

    def came(self) -> None:
        """Note that another upload has come, whatever becomes of it."""
        self._came += 1

    def waiting(self, modality: str) -> int:
        """Return how many uploads of a modality wait now."""
        return self._waiting[modality]

    async def wait(self, modality: str) -> None:
        """Return once no more uploads come, or LONGEST_S after the first of those waiting began to wait."""
        if self._over is None:
            self._over = asyncio.Event()
            asyncio.get_running_loop().call_soon(self._look, self._came, 0, self._clock() + LONGEST_S, self._over)
        self._waiting[modality] += 1
        try:
            await self._over.wait()
        finally:
            self._waiting[modality] -= 1

    def _look(self, came_before: int, quiet: int, give_up_at: float, over: asyncio.Event) -> None:
        """Check whether more came in the round that ends, which `quiet` rounds without any preceded."""
        quiet = quiet + 1 if self._came == came_before else 0
        if quiet < QUIET_ROUNDS and self._clock() < give_up_at:
            asyncio.get_running_loop().call_soon(self._look, self._came, quiet, give_up_at, over)
            return
        self._over = None
        over.set()

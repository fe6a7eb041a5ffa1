"""A burst of uploads: those that are let in go on once no more come, so that those that are refused need not wait."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

LONGEST_S = 0.05
"""However many more come, nobody who is let in waits for longer than this."""

QUIET_ROUNDS = 2
"""So often in a row the event loop must have gone round: what it reads in one round is looked at in the next."""


class Lull:
    """Makes uploads wait until the event loop has gone round without another.

    What an upload costs once it is let in is several times what it costs to refuse one, and its decoding takes the
    interpreter from the event loop besides: of a burst all should be read before any is worked on. An upload that
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
        """Return once no more uploads come, or LONGEST_S after the first that waits began to."""
        if self._over is None:
            self._over = asyncio.Event()
            asyncio.get_running_loop().call_soon(self._look, self._came, 0, self._clock() + LONGEST_S, self._over)
        self._waiting[modality] += 1
        try:
            await self._over.wait()
        finally:
            self._waiting[modality] -= 1

    def _look(self, came_before: int, quiet: int, give_up_at: float, over: asyncio.Event) -> None:
        """Look whether more came in the round that ends, after so many that were `quiet`."""
        quiet = quiet + 1 if self._came == came_before else 0
        if quiet < QUIET_ROUNDS and self._clock() < give_up_at:
            asyncio.get_running_loop().call_soon(self._look, self._came, quiet, give_up_at, over)
            return
        self._over = None
        over.set()

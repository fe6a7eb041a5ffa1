"""Places for those who work at a time; of those who wait, whoever has little left goes first. Knows no work."""

import asyncio
from collections import deque


class Places:
    """`count` places. Who ends something goes before all who begin something; each in the order in which they came.

    What has begun holds memory, and a caller's patience runs out: were there one line, all would begin and none end.
    Used on the event loop's thread only.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._ends: deque[asyncio.Future[None]] = deque()
        self._begins: deque[asyncio.Future[None]] = deque()

    async def take(self, *, ends: bool) -> None:
        """Return once there is a place, which is then the caller's until it is given back."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        (self._ends if ends else self._begins).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had been given the place already
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand a place on to the next who waits, if anybody does."""
        for line in (self._ends, self._begins):
            while line:
                if not (turn := line.popleft()).done():
                    turn.set_result(None)
                    return
        self._free += 1

"""A limited number of places to work in; of those who wait, whoever ends something goes first. Knows no work."""

import asyncio
from collections import deque


class Places:
    """`count` places. Those who end something go before all who begin something, otherwise in the order they came.

    What has begun holds memory, and a caller's patience runs out: if there were one line, all would begin and none end.
    For use on the event loop's thread only.
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
        """Hand a place to the next in line, if anybody waits."""
        for line in (self._ends, self._begins):
            while line:
                if not (turn := line.popleft()).done():
                    turn.set_result(None)
                    return
        self._free += 1

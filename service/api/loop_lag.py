"""How long the event loop keeps everybody waiting: each moment that it is busy is added to all requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

PERIOD_S = 0.02
"""Time between two measurements: fifty wake-ups a second cost about a thousandth of a core."""

TIMER_S = 0.001
"""How coarse an event loop's timers may be. uvloop's wake up to this much early. Sleeping again for the rest would set
a timer of 0 ms, so that the loop would spin until the time has come, at every measurement."""


class LoopLag:
    """Tries to wake up every `period_s`, and tells `record` each time by how many seconds it was late.

    If the loop stands still for longer than a period, the missed wake-ups count as well, each with its own lateness:
    otherwise one second of standstill would be one measurement among thousands. So the share of measurements above x
    is the share of time in which anything that came had to wait for longer than x. Waking up less than `TIMER_S` early
    counts as being on time.

    An async context manager: it measures within the block. `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        record: Callable[[float], None],
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._record, self._period_s, self._clock, self._sleep = record, period_s, clock, sleep

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._measure(), name="measuring the event loop's lag")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _measure(self) -> None:
        due = self._clock() + self._period_s
        while True:
            await self._sleep(max(0.0, due - self._clock()))
            now = self._clock()
            while due < now + TIMER_S:
                self._record(max(0.0, now - due))
                due += self._period_s

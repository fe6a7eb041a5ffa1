"""Fair turns on one device: those who want it get equal shares of its time, not equally many turns. Knows no tensors.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each share has an account of the device seconds that it has had,
divided by its weight; of those that wait, the one with the lowest account has the next turn. A share that comes back
from a pause starts with the account of the one that has the device then, so that nobody saves up time with which to
make the others stand still. Two shares that both always want the device have had equal time at any moment, give or take
one turn of each.

A turn costs the time that it takes, unless what was begun in it goes on after it (`Share.charge`).
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

QUANTUM_S = 0.05
"""How long a turn should last at most while others want the device, too."""

MOST_CHARGED_S = 2.0
"""The most that one turn costs: while a process was stopped, or its machine stood still, nobody used the device."""

RIVALRY_S = 10.0
"""How long after its last turn a share still counts as a rival: otherwise its next upload would meet a full batch."""

BACKGROUND = 0.25
"""The weight of what nobody waits for, such as the loading of a new version: a quarter of a modality's share."""


class FairTurns:
    """The line of those who want one device. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._line: dict[Share, asyncio.Future[None]] = {}
        self._holder: Share | None = None
        self._granted_at = 0.0
        self._account_s = 0.0
        self._last_turns: dict[Share, float] = {}

    def share(self, *, in_background: bool = False) -> "Share":
        """Return a new member's share: of weight 1, or of weight `BACKGROUND` for what can wait longer."""
        return Share(self, in_background=in_background)

    @property
    def is_held(self) -> bool:
        """Whether somebody has the device."""
        return self._holder is not None

    def has_rivals(self, share: "Share") -> bool:
        """Whether others, except those in the background, wait for the device or had it in the last `RIVALRY_S`."""
        since = self._clock() - RIVALRY_S
        lately = [other for other, last in self._last_turns.items() if last > since]
        return any(other is not share and not other.in_background for other in [*self._entitled(), *lately])

    async def take(self, share: "Share") -> None:
        """Return once `share` has the device. A share may wait for it, or hold it, only once at a time."""
        share.start_s = max(self._account_s, share.end_s)
        if self._holder is None and not self._entitled():
            self._grant(share)
            return
        granted = self._line[share] = asyncio.get_running_loop().create_future()
        try:
            await granted
        except asyncio.CancelledError:
            if self._holder is share:  # granted, and cancelled before it could begin
                self.give_back(share)
            raise
        finally:
            self._line.pop(share, None)

    def give_back(self, share: "Share") -> None:
        """End the turn of `share` and charge it for the time.

        Who is next is decided a moment later: the share that gives the turn back may want another, and be entitled to
        it.
        """
        now = self._clock()
        share.end_s = share.start_s + share.settle(now - self._granted_at) / share.weight
        self._last_turns[share] = now
        for idle in [other for other, last in self._last_turns.items() if now - last > RIVALRY_S]:
            del self._last_turns[idle]
        self._holder = None
        if self._entitled():
            asyncio.get_running_loop().call_soon(self._grant_next)
        else:
            self._account_s = max(self._account_s, share.end_s)

    def _grant_next(self) -> None:
        if self._holder is None and (entitled := self._entitled()):
            share = min(entitled, key=lambda waiting: (waiting.start_s, waiting.end_s))  # of equal ones, the idlest
            self._grant(share)
            self._line.pop(share).set_result(None)

    def _entitled(self) -> "list[Share]":
        """Return the shares that wait, without those that have been cancelled and have not noticed yet."""
        return [share for share, granted in self._line.items() if not granted.done()]

    def _grant(self, share: "Share") -> None:
        self._holder, self._granted_at, self._account_s = share, self._clock(), share.start_s


class Share:
    """One member's share of a device: `async with share:` waits for its turn, and holds the device in the block."""

    def __init__(self, turns: FairTurns, *, in_background: bool) -> None:
        self._turns, self.in_background = turns, in_background
        self.weight = BACKGROUND if in_background else 1.0
        self.start_s = self.end_s = 0.0
        """Its account, in device seconds over weight, at the start of its turn and at the end of its last one."""

        self._unsettled_s = 0.0

    def charge(self, more_s: float) -> None:
        """Make this turn, or the next, cost `more_s` device seconds more than it takes; fewer if negative."""
        self._unsettled_s += more_s

    def settle(self, took_s: float) -> float:
        """Return what a turn of `took_s` seconds costs, with all that was charged since the last turn."""
        cost_s, self._unsettled_s = took_s + self._unsettled_s, 0.0
        return min(cost_s, MOST_CHARGED_S)

    @property
    def has_rivals(self) -> bool:
        """Whether others, except those in the background, want the device or had it lately: then keep turns short."""
        return self._turns.has_rivals(self)

    async def __aenter__(self) -> None:
        await self._turns.take(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.give_back(self)

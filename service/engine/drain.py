"""When a full queue has room again: what those who are refused are told. Knows no tensors, no queue.

Uploads take turns, one item each. So after r rounds every upload that had r items left or fewer is done, and every
other one has had r items run: a large upload delays the others only by the items that it runs meanwhile.

How long that takes is learnt from the last batches: how long each lasted, including what others had of the device. How
long a batch of another size would have lasted follows from the costs of both sizes, for a batch of one is not all that
the device can do. Where decoding takes long, the last batches also tell how long the queue stood empty because of it.
"""

import math
from collections import deque
from collections.abc import Sequence

from service.engine.cost_curve import CostCurve

WINDOW = 16
"""How many of the last batches count."""

ROOM = 4
"""Those who are refused come back when the smallest one in this many of the waiting uploads, and all as small, should
be done. In a queue of equals that is all of them, so that as many find a place as were refused."""

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Bounds of the advice: `Retry-After` counts whole seconds, and an estimate should send nobody away for minutes."""


class Drain:
    """Combines how long the last batches lasted with what batches cost. Times are seconds of one clock.

    Advice is at least 1 s, at most 60. Before the first batch it follows from the costs alone.
    """

    def __init__(self, costs: CostCurve) -> None:
        self._costs = costs
        self.batches = 0
        """How many batches were recorded: until the next one, the same queue gets the same advice."""
        self._ended = -math.inf
        self._lasted: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._starved: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._should_last: dict[int, float] = {}
        """By size, kept until the next batch has ended: a burst has many to refuse, and each should hear at once."""

    def record(self, *, since: float, arrived: float, ended: float, items: int, uploads: float) -> None:
        """Note a batch of `items` that ended at `ended`; they make up `uploads` (one tile of four is a quarter).

        Work on the oldest of its uploads began at `since`, and the first of them joined the queue at `arrived`.
        """
        self._lasted.append((ended - max(self._ended, arrived), items))
        if since < self._ended:  # else nothing was being decoded at first: that tells nothing about decoding
            self._starved.append((max(arrived - self._ended, 0.0), uploads))
        self._ended = ended
        self.batches += 1
        self._should_last.clear()

    def until_place_s(self, left: Sequence[int], *, ahead: int, largest: int) -> float:
        """Return the seconds until the smallest quarter of the waiting uploads, and all as small, should be done.

        Batches hold `largest` items. `left` are the items that each upload still has; `ahead` others are still to be
        decoded, and are taken for one item each: nobody knows yet what they hold, and whoever comes back too early gets
        better advice then.
        """
        everybody = sorted([*left, *[1] * ahead])
        return self._advice(everybody, everybody[(len(everybody) - 1) // ROOM], ahead, largest)

    def until_freed_s(self, held: Sequence[tuple[int, int]], *, items: int, largest: int) -> float:
        """Return the seconds until uploads that hold this many `items` should be done, in batches of `largest`.

        `held` are the items of each upload: those left, and all of them.
        """
        rounds = 0
        for left, size in sorted(held):
            if items > 0:
                rounds, items = left, items - size
        return self._advice([left for left, _ in held], rounds, 0, largest)

    def _advice(self, left: Sequence[int], rounds: int, ahead: int, largest: int) -> float:
        items = max(sum(min(each, rounds) for each in left), 1)  # none left: the batch that runs
        batches = math.ceil(items / largest)
        seconds = batches * self._should_last_s(math.ceil(items / batches)) + ahead * self._starved_s
        return min(max(seconds, SHORTEST_S), LONGEST_S)

    def _should_last_s(self, size: int) -> float:
        """Return how long a batch of `size` should last, judging by the last ones; fuller ones count more.

        It is taken to last at least as long as it costs: one that is dealt out on an idle device is over as soon as it
        begins.
        """
        if size in self._should_last:
            return self._should_last[size]
        weights = sum(items for _, items in self._lasted)
        lasted_s = sum(items * lasted * self._ratio(items, size) for lasted, items in self._lasted)
        self._should_last[size] = max(lasted_s / weights if weights else 0.0, self._costs.seconds(size))
        return self._should_last[size]

    def _ratio(self, items: int, size: int) -> float:
        """Return how many times as long a batch of `size` lasts as one of `items`: between 1 and the ratio of sizes."""
        proportion, cost_s = size / items, self._costs.seconds(items)
        ratio = self._costs.seconds(size) / cost_s if cost_s else proportion
        return min(max(ratio, min(proportion, 1.0)), max(proportion, 1.0))

    @property
    def _starved_s(self) -> float:
        """Seconds for which the queue stood empty, for each upload that was being decoded."""
        uploads = sum(uploads for _, uploads in self._starved)
        return sum(seconds for seconds, _ in self._starved) / uploads if uploads else 0.0

"""What a batch of n items costs on its device: about a·n + b seconds, learnt from the runs themselves. No tensors.

The times of the warm-up are the first estimate. They count only until there are runs of two sizes, one at least twice
the other, because a first run also pays for memory and kernels that later ones find ready. Of each size, the median of
its last `KEPT` runs counts, once there are `ENOUGH`, so that one hiccup is not believed. A size that none of the last
`SHELF_LIFE` batches had is forgotten, so that no run is believed for ever. The warm-up is never forgotten, since a day
of lone uploads tells nothing about full batches.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping

NOISE = 0.1
"""Differences of less than a tenth are taken for noise."""

KEPT, ENOUGH = 9, 3
"""Runs of one size that are remembered, and how many it takes before they count."""

SHELF_LIFE = 100
"""How many batches without a size it takes to forget that size. A size that was slow once is not run beside rivals, so
it is not measured: it should be tried again soon, which costs little, as few batches are spent on it."""


class CostCurve:
    """Seconds by batch size. `first` are those of the warm-up; without them, nothing is known at first."""

    def __init__(self, first: Mapping[int, float] | None = None) -> None:
        self._first = dict(first or {})
        self._runs: dict[int, deque[float]] = {}
        self._last_run: dict[int, int] = {}
        self._recorded = 0
        self._own: dict[int, float] = {}
        self._known: dict[int, float] = {}
        self._line: tuple[float, float] | None = None
        self._fit()

    def record(self, size: int, seconds: float) -> None:
        """Note that a batch of `size` items took `seconds`."""
        self._recorded += 1
        self._last_run[size] = self._recorded
        self._runs.setdefault(size, deque(maxlen=KEPT)).append(seconds)
        for stale in [n for n, last in self._last_run.items() if self._recorded - last >= SHELF_LIFE]:
            del self._runs[stale], self._last_run[stale]
        self._fit()

    @property
    def fixed_s(self) -> float:
        """b: the seconds that a batch costs however small it is; 0 if that is unknown, or no more than noise.

        Noise is a part of the smallest batch's time: a line through large batches alone multiplies it on its way to
        size 0.
        """
        if self._line is None:
            return 0.0
        fixed = self._line[1]
        return fixed if fixed > NOISE * self._known[min(self._known)] else 0.0

    def seconds(self, size: int) -> float:
        """Return the seconds a batch of `size` should take: measured, or by the fitted line; 0 if nothing is known.

        While the sizes measured are too close together for a line, the cost is taken to be proportional to the size.
        """
        if size in self._known:
            return self._known[size]
        if self._line is not None:
            slope, fixed = self._line
            return max(slope * size + fixed, 0.0)
        return size * statistics.median([took / n for n, took in self._known.items()]) if self._known else 0.0

    def most_within(self, seconds: float, largest: int) -> int:
        """Return the largest size, up to `largest`, that should take no longer than `seconds` or than one item."""
        allowed = max(seconds, (1 + NOISE) * self.seconds(1))
        return next((size for size in range(largest, 1, -1) if self.seconds(size) <= allowed), 1)

    def best_size(self, largest: int) -> int:
        """Return the batch size up to `largest` that costs least per item.

        That is `largest`, unless runs of both have shown a smaller size to be cheaper by more than noise: on a CPU a
        large batch may outgrow the caches.
        """
        if largest not in self._own:
            return largest
        each = {size: took / size for size, took in self._own.items() if size <= largest}
        best = min(each, key=each.__getitem__)
        return best if each[best] < (1 - NOISE) * each[largest] else largest

    def _fit(self) -> None:
        self._own = {n: statistics.median(runs) for n, runs in self._runs.items() if len(runs) >= ENOUGH}
        one_s = self._own.get(1, math.inf)  # a batch costs no more than its items alone: else its first run was slow
        first = {size: min(took, size * one_s) for size, took in self._first.items()}
        self._known = self._own if _tell_a_line(self._own) else first | self._own
        self._line = None
        if _tell_a_line(self._known):
            slope, fixed = statistics.linear_regression(list(self._known), list(self._known.values()))
            self._line = slope, fixed


def _tell_a_line(seconds: Mapping[int, float]) -> bool:
    """Whether the sizes are far enough apart for a line; between two neighbours, noise alone could make any slope."""
    return bool(seconds) and max(seconds) >= 2 * min(seconds)

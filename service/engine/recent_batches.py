"""What the last batches tell: how fast the queue empties, and how many callers may be expected back."""

import math
from collections import deque

WINDOW = 16
"""Batches over which the rate is taken."""

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Bounds of the advice: `Retry-After` counts whole seconds, and an estimate should send nobody away for minutes."""

TRAFFIC_S = 0.25
"""How long after a batch its callers may be expected back: time to encode the answer, ask again and decode."""


class RecentBatches:
    """A short memory of batches. Times are seconds of one clock; idle time between batches does not dilute the rate."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._ended = -math.inf
        self._callers = 0

    def record(self, *, arrived: float, ended: float, callers: int, finished: int) -> None:
        """Note a batch that ended at `ended` and whose oldest upload had come at `arrived`.

        It carried items of `callers` uploads, the last items of `finished` of them. It counts as lasting from the end
        of the batch before it or, if there was nothing to do then, from `arrived`.
        """
        self._batches.append((ended - max(self._ended, arrived), finished))
        self._ended, self._callers = ended, callers

    def retry_after_s(self, queued: int) -> float:
        """Return the seconds in which `queued` uploads will be through at the recent rate.

        At least 1, at most 60; 1 as long as no rate is known.
        """
        seconds = sum(lasted for lasted, _ in self._batches)
        uploads = sum(finished for _, finished in self._batches)
        if not uploads:
            return SHORTEST_S
        return min(max(queued * seconds / uploads, SHORTEST_S), LONGEST_S)

    def expected_back(self, now: float) -> int:
        """Return how many callers the last batch carried if it ended less than `TRAFFIC_S` ago, else 0."""
        return self._callers if now - self._ended < TRAFFIC_S else 0

"""What the last batches tell: how many callers may be expected back, and when."""

import math
from collections import deque

RETURNS = 5
"""Batches from which it is learnt how long their callers take to come back: the longest of their times counts."""

TRAFFIC_S = 0.25
"""How long after a batch its callers may be expected back: time to encode the answer, ask again and decode."""


class RecentBatches:
    """A short memory of batches. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=RETURNS)
        self._ended = -math.inf
        self._expected = 0
        self._still_away = 0

    @property
    def ended(self) -> float:
        """When the last batch ended; minus infinity before the first."""
        return self._ended

    def record(self, *, ended: float, finished: int, waiting: int) -> None:
        """Note a batch that ended at `ended`.

        It had the last items of `finished` uploads; `waiting` others were in the queue when it ended.
        """
        if self._still_away:  # they took longer than until now; how much longer does not matter
            self._returns.append(ended - self._ended)
        self._ended, self._expected, self._still_away = ended, finished + waiting, finished

    def upload_came(self, now: float) -> None:
        """Note that an upload came: it is taken for one of those that the last batch answered."""
        if self._still_away:
            self._still_away -= 1
            if not self._still_away:
                self._returns.append(now - self._ended)

    def expected(self, now: float) -> int:
        """Return how many uploads the queue should grow to: as many as the last batch answered and left waiting.

        0 if it ended `TRAFFIC_S` ago or more.
        """
        return self._expected if now - self._ended < TRAFFIC_S else 0

    @property
    def back_at(self) -> float:
        """When all callers that the last batch answered should be back; its end, while nothing is known of that."""
        return self._ended + (max(self._returns, default=0.0))

"""What the last batches tell: how fast the queue empties, and how many callers may be expected back, and when."""

import math
from collections import deque

WINDOW = 16
"""Batches over which the rate is taken."""

RETURNS = 5
"""Batches from which is learnt how long their callers take to come back: the longest of so many."""

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Bounds of the advice: `Retry-After` counts whole seconds, and an estimate should send nobody away for minutes."""

TRAFFIC_S = 0.25
"""How long after a batch its callers may be expected back: time to encode the answer, ask again and decode."""


class RecentBatches:
    """A short memory of batches. Times are seconds of one clock; idle time between batches does not dilute the rate."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._returns: deque[float] = deque(maxlen=RETURNS)
        self._ended = -math.inf
        self._expected = 0
        self._still_away = 0

    @property
    def ended(self) -> float:
        """When the last batch ended; minus infinity before the first."""
        return self._ended

    def record(self, *, since: float, ended: float, uploads: float, finished: int, waiting: int) -> None:
        """Note a batch that ended at `ended`; work on the oldest upload in it had begun at `since`.

        Its items make up `uploads` (of one in four tiles, each is a quarter) and are the last of `finished`; `waiting`
        others were in the queue when it ended. It counts as lasting from the end of the batch before it or, if there
        was nothing to do then, from `since`: where decoding is what takes long, the rate is that of decoding.
        """
        if self._still_away:  # they took longer than until now; how much longer does not matter
            self._returns.append(ended - self._ended)
        self._batches.append((ended - max(self._ended, since), uploads))
        self._ended, self._expected, self._still_away = ended, finished + waiting, finished

    def upload_came(self, now: float) -> None:
        """Note that an upload came: it is taken for one of those that the last batch answered."""
        if self._still_away:
            self._still_away -= 1
            if not self._still_away:
                self._returns.append(now - self._ended)

    def retry_after_s(self, queued: int) -> float:
        """Return the seconds in which `queued` uploads will be through at the recent rate.

        At least 1, at most 60; 1 as long as no rate is known.
        """
        seconds = sum(lasted for lasted, _ in self._batches)
        uploads = sum(done for _, done in self._batches)
        if not uploads:
            return SHORTEST_S
        return min(max(queued * seconds / uploads, SHORTEST_S), LONGEST_S)

    def expected(self, now: float) -> int:
        """Return how many uploads the queue should come to: as many as the last batch answered and left in it.

        0 if it ended `TRAFFIC_S` ago or more.
        """
        return self._expected if now - self._ended < TRAFFIC_S else 0

    @property
    def back_at(self) -> float:
        """When all that the last batch answered should be back; its end, as long as nothing is known of that."""
        return self._ended + (max(self._returns, default=0.0))

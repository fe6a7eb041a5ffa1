"""Whether a free device should stand idle a moment longer, so that more uploads go into the next batch. No tensors.

Callers who were answered together come back almost together, and a batch of n costs a·n + b seconds (CostCurve). So
running the k who wait now and the m still missing in two batches costs b more than in one. Waiting is worth it if

- b is at least `WORTHWHILE` of the joint batch's cost: a smaller saving is lost on those who just miss that batch;
- all m should be back within the next r seconds, judging by how long the last ones took, where k·r ≤ m·b (the delay of
  those who wait now is no more than what it saves those who come later) and the device is idle for at most b / 2;
- and, if they do not come, the device stands idle for no longer than b: giving up after as long as the saving would
  have been costs at most twice what knowing better would have cost (the ski-rental problem).

Where b is 0, as on most CPUs, nobody ever waits; nor does a lone caller, or the first one after a pause.
"""

from service.engine.cost_curve import CostCurve
from service.engine.recent_batches import RecentBatches

WORTHWHILE = 0.2
"""The part of a batch's cost that waiting must save."""


class Mates:
    """Combines what is known of the last batches and of the cost of the next; no wait is longer than `max_wait_s`."""

    def __init__(self, recent: RecentBatches, costs: CostCurve, max_wait_s: float) -> None:
        self._recent, self._costs, self._max_wait_s = recent, costs, max_wait_s

    def give_up_at(self, oldest: float) -> float:
        """Return when to stop waiting, if the oldest waiting upload came at `oldest`.

        The time it spent behind a running batch does not count: the device was not idle then.
        """
        return self._idle_since(oldest) + min(self._costs.fixed_s, self._max_wait_s)

    def are_worth_waiting_for(self, now: float, *, oldest: float, waiting: int, room: int) -> bool:
        """Say whether to keep waiting, with `waiting` uploads in the queue and room for `room` in a batch."""
        missing = min(self._recent.expected(now), room) - waiting
        saved_s = self._costs.fixed_s
        if missing <= 0 or now >= self.give_up_at(oldest):
            return False
        if saved_s < WORTHWHILE * self._costs.seconds(waiting + missing):
            return False
        idle_s = self._recent.back_at - self._idle_since(oldest)
        remaining_s = max(self._recent.back_at - now, 0.0)
        return idle_s <= min(saved_s / 2, self._max_wait_s) and waiting * remaining_s <= missing * saved_s

    def _idle_since(self, oldest: float) -> float:
        return max(self._recent.ended, oldest)

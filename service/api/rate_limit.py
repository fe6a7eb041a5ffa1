"""How often a caller may ask: a token bucket for each. Knows nothing of HTTP.

Counts in whole numbers, so that nothing is lost to rounding and a wait is exact: a nanosecond brings `per_minute`
units, and a request costs as many units as a minute has nanoseconds.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import RateLimited

NS = 1_000_000_000
COST = 60 * NS
MOST_CALLERS = 10_000
"""Buckets kept; beyond that, the one used longest ago is forgotten, and so counts as full."""


@dataclass(slots=True)
class _Bucket:
    units: int
    filled_at: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller has left: whole requests at once, and whole seconds until the full burst is there again."""

    remaining: int
    full_in_s: int


class RateLimiter:
    """Lets each caller send `burst` requests at once and `per_minute` in the long run. Used on one thread only.

    `clock` gives nanoseconds that never go back.
    """

    def __init__(self, per_minute: int, burst: int, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.burst = burst
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def window_s(self) -> int:
        """Whole seconds in which an empty bucket fills."""
        return _rounded_up(self._ns_for(self.burst * COST), NS)

    def spend(self, caller: str) -> None:
        """Take one request from the caller's allowance.

        Raises:
            RateLimited: nothing is left; `retry_after_s` is the time until a request is let through. A refused request
                costs nothing.
        """
        bucket = self._filled(caller)
        if bucket.units < COST:
            raise RateLimited(
                "you have sent more requests than the rate limit allows; Retry-After says when the next is welcome",
                retry_after_s=self._ns_for(COST - bucket.units) / NS,
            )
        bucket.units -= COST

    def allowance(self, caller: str) -> Allowance:
        """Return what the caller has left now."""
        units = self._filled(caller).units
        return Allowance(units // COST, _rounded_up(self._ns_for(self.burst * COST - units), NS))

    def _filled(self, caller: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self.burst * COST, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        bucket.units = min(self.burst * COST, bucket.units + (now - bucket.filled_at) * self._per_minute)
        bucket.filled_at = now
        return bucket

    def _ns_for(self, units: int) -> int:
        return _rounded_up(units, self._per_minute)


def _rounded_up(number: int, divisor: int) -> int:
    return -(-number // divisor)

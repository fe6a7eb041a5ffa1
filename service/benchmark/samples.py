"""What a load generator notes of each request, and what follows: windows, percentiles, whether the load is steady."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Outcome = Literal["answered", "refused", "failed"]
"""Answered with 200; refused with 429 or 503, which say "later"; failed: anything else, or no answer at all."""

TOLERANCE = 1.1
"""Windows are alike if their largest rate is at most this many times the smallest."""

ALIKE = 3
"""How many windows in a row must be alike."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds after the load began.

    `due_s` is when it was to be sent: in an open loop the scheduled time, however late the generator was, so that a
    server that stalls cannot hide how long its callers waited. `received_bytes` is the size of the answer's body.
    """

    due_s: float
    over_s: float
    outcome: Outcome
    received_bytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, from `start_s` (inclusive) to `end_s` (exclusive)."""

    start_s: float
    end_s: float

    def holds(self, time_s: float) -> bool:
        """Whether a moment lies in the span."""
        return self.start_s <= time_s < self.end_s

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was seen within a span.

    `throughput` is the images per second whose answers came within it. `answered`, `refused` and `received_bytes` are
    of the requests that were over within it, `failed` is of those that were waited for within it. The percentiles are
    of answered requests that were *due* within it, whenever their answers came; None if there are none.
    """

    throughput: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    answered: int
    refused: int
    failed: int
    received_bytes: int


def is_steady(rates: Sequence[float]) -> bool:
    """Whether the last three rates lie within 10 % of each other, and are above 0."""
    last = rates[-ALIKE:]
    return len(last) == ALIKE and min(last) > 0 and max(last) <= TOLERANCE * min(last)


def summarise(samples: Sequence[Sample], span: Span) -> Summary:
    """Return what the samples say about a span; all requests that were due within it should be over.

    An upload that fails late would be in no span, and neither would the latency that it hides. So it counts as failed
    in each span in which it was waited for.
    """
    over = [one for one in samples if span.holds(one.over_s)]
    answered = [one for one in over if one.outcome == "answered"]
    latencies_ms = [
        1000 * (one.over_s - one.due_s) for one in samples if one.outcome == "answered" and span.holds(one.due_s)
    ]
    p50, p95, p99 = percentiles(latencies_ms)
    return Summary(
        throughput=len(answered) / span.length_s,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        answered=len(answered),
        refused=sum(one.outcome == "refused" for one in over),
        failed=sum(
            one.outcome == "failed" and one.due_s < span.end_s and one.over_s >= span.start_s for one in samples
        ),
        received_bytes=sum(one.received_bytes for one in over),
    )


def percentiles(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the 50th, 95th and 99th percentile, linear between neighbours; None if there are no values."""
    if not values:
        return None, None, None
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Yield the times, in seconds from the start and without end, of a Poisson process of `rate` arrivals a second."""
    rng = np.random.default_rng(seed)
    time_s = 0.0
    while True:
        time_s += float(rng.exponential(1 / rate))
        yield time_s

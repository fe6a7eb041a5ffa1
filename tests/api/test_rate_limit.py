"""The token buckets: bursts, long runs, and waits that are exact."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.rate_limit import MOST_CALLERS, NS, RateLimiter
from service.errors import RateLimited


class Clock:
    """Nanoseconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 7 * NS + 1

    def __call__(self) -> int:
        return self.now


def passes(limiter: RateLimiter, caller: str = "a") -> bool:
    try:
        limiter.spend(caller)
    except RateLimited:
        return False
    return True


def test_a_burst_passes_and_the_next_is_refused() -> None:
    limiter = RateLimiter(60, 5, clock=Clock())
    assert [passes(limiter) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_caller_does_not_pay_for_another() -> None:
    limiter = RateLimiter(60, 1, clock=Clock())
    assert [passes(limiter, caller) for caller in "aabb"] == [True, False, True, False]


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    limiter = RateLimiter(60, 1, clock=clock)
    assert passes(limiter)
    for _ in range(10):
        clock.now += NS // 10
        last = passes(limiter)
    assert last


def test_an_idle_caller_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    limiter = RateLimiter(60, 3, clock=clock)
    assert passes(limiter)
    clock.now += 3600 * NS
    assert [passes(limiter) for _ in range(4)] == [True, True, True, False]


@given(
    per_minute=st.integers(1, 100_000),
    burst=st.integers(1, 20),
    steps_ns=st.lists(st.integers(0, 90 * NS), max_size=30),
)
def test_the_wait_that_a_refusal_names_is_exact(per_minute: int, burst: int, steps_ns: list[int]) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, clock=clock)
    for step in steps_ns:
        clock.now += step
        passes(limiter)
    while passes(limiter):
        pass
    with pytest.raises(RateLimited) as caught:
        limiter.spend("a")
    wait_ns = round(caught.value.retry_after_s * NS)
    clock.now += wait_ns - 1
    assert not passes(limiter)
    clock.now += 1
    assert passes(limiter)


@given(st.integers(1, 600), st.integers(1, 50), st.lists(st.integers(0, 2 * NS), min_size=1, max_size=200))
def test_no_more_passes_than_the_burst_and_the_rate_allow(per_minute: int, burst: int, steps_ns: list[int]) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, clock=clock)
    began, passed = clock.now, 0
    for step in steps_ns:
        clock.now += step
        passed += passes(limiter)
    assert passed <= burst + per_minute * (clock.now - began) / (60 * NS)


def test_what_is_left_is_told_in_whole_requests_and_whole_seconds() -> None:
    clock = Clock()
    limiter = RateLimiter(30, 4, clock=clock)
    assert limiter.window_s == 8
    limiter.spend("a")
    limiter.spend("a")
    clock.now += NS // 2
    left = limiter.allowance("a")
    assert (left.remaining, left.full_in_s) == (2, math.ceil(2 * 2 - 0.5))
    assert RateLimiter(7, 1, clock=clock).window_s == math.ceil(60 / 7)


def test_the_least_recent_of_too_many_callers_is_forgotten() -> None:
    limiter = RateLimiter(60, 1, clock=Clock())
    for caller in range(MOST_CALLERS):
        limiter.spend(str(caller))
    assert not passes(limiter, "0")  # nobody is forgotten yet, and now "1" has been away for longest
    limiter.spend(str(MOST_CALLERS))
    assert [passes(limiter, caller) for caller in ("0", "2", str(MOST_CALLERS))] == [False] * 3
    assert passes(limiter, "1")

"""The measurement of how long the event loop keeps everybody waiting."""

import asyncio
import time

import pytest

from service.api.loop_lag import LoopLag
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Times:
    """A clock that each sleep sets forward: by what was asked for, and by the next of `late`."""

    def __init__(self, *late: float) -> None:
        self.now = 0.0
        self._late = list(late)
        self.is_over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if not self._late:
            self.is_over.set()
            await asyncio.Event().wait()
        self.now += seconds + self._late.pop(0)


async def lags(*late: float) -> list[float]:
    """Return what is recorded of a loop that is late by these seconds in turn, on a period of one second."""
    times, recorded = Times(*late), list[float]()
    async with LoopLag(recorded.append, period_s=1.0, clock=lambda: times.now, sleep=times.sleep):
        await times.is_over.wait()
    return recorded


async def test_each_wake_up_is_recorded_with_its_lateness() -> None:
    assert await lags(0.0, 0.25, 0.5) == [0.0, 0.25, 0.5]


async def test_lateness_does_not_add_up() -> None:
    assert await lags(0.5, 0.5, 0.5) == [0.5, 0.5, 0.5]


async def test_to_wake_up_a_little_early_is_not_to_be_late() -> None:
    assert await lags(-0.0009, 0.0, -0.0009) == [0.0, 0.0, 0.0]


async def test_to_wake_up_far_too_early_is_to_sleep_on() -> None:
    assert await lags(-0.5, 0.25) == [0.25]


async def test_wake_ups_that_were_missed_count_with_a_lateness_of_their_own() -> None:
    assert await lags(3.5, 0.0) == [3.5, 2.5, 1.5, 0.5, 0.0]


async def test_a_call_that_blocks_the_loop_is_seen() -> None:
    recorded: list[float] = []
    async with LoopLag(recorded.append, period_s=0.01):
        await until(lambda: len(recorded) > 1)
        time.sleep(0.2)  # noqa: ASYNC251 -- the fault to be seen
        await until(lambda: max(recorded) >= 0.15)
    assert sum(lag >= 0.1 for lag in recorded) >= 5


async def test_nothing_is_measured_after_the_block() -> None:
    recorded: list[float] = []
    async with LoopLag(recorded.append, period_s=0.001):
        await until(lambda: len(recorded) > 1)
    measured = len(recorded)
    await asyncio.sleep(0.02)
    assert len(recorded) == measured

"""Waiting for mates only where the cost of a batch says that it pays: callers who come back, in virtual time."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.batcher import Answer
from service.engine.device import Device
from tests.engine.costed_engine import CostedEngine, come_back, line
from tests.engine.virtual_time import SpendingExecutor, now, run_virtually


def play(
    each: float,
    fixed: float,
    pauses: Sequence[Iterator[float]],
    *,
    believed_fixed: float | None = None,
    max_wait_s: float = 0.004,
    until: float = 2.0,
) -> tuple[CostedEngine, list[list[Answer[int]]]]:
    """Let one caller for each of the `pauses` come back until that time; `believed_fixed`: a wrong first estimate."""

    async def main() -> tuple[CostedEngine, list[list[Answer[int]]]]:
        executor = SpendingExecutor()
        engine = CostedEngine(line(each, fixed if believed_fixed is None else believed_fixed), executor)
        batcher = engine.batcher(Device("virtual", executor=executor, clock=now), max_wait_s=max_wait_s)
        engine.cost = line(each, fixed)
        async with batcher:
            return engine, await asyncio.gather(*[come_back(batcher, pause, until) for pause in pauses])

    return run_virtually(main)


def jittered(callers: int, least: float, most: float) -> list[Iterator[float]]:
    random = Random(callers)
    return [(random.uniform(least, most) for _ in itertools.count()) for _ in range(callers)]


def idle_while_waiting(engine: CostedEngine, answers: list[list[Answer[int]]]) -> int:
    """How many waited though the device was idle: longer than the longest batch before them takes."""
    longest = max(map(engine.cost, engine.sizes))
    return sum(answer.queued_s > longest + 1e-9 for caller in answers for answer in caller)


@given(
    each=st.sampled_from([0.001, 0.01]),
    callers=st.integers(1, 12),
    most=st.sampled_from([0.0, 0.002, 0.02]),
)
@settings(max_examples=15, deadline=None)
def test_where_a_batch_has_no_fixed_cost_the_device_is_never_idle_while_somebody_waits(
    each: float, callers: int, most: float
) -> None:
    engine, _ = play(each, 0.0, jittered(callers, 0.0, most), max_wait_s=0.1, until=0.3)
    without, _ = play(each, 0.0, jittered(callers, 0.0, most), max_wait_s=0.0, until=0.3)
    assert engine.began == without.began


@pytest.mark.parametrize("believed_fixed", [0.02, 0.0, 1.0])
def test_eight_callers_who_come_back_come_to_be_served_in_batches_of_eight_where_the_fixed_cost_is_large(
    believed_fixed: float,
) -> None:
    engine, _ = play(0.001, 0.02, jittered(8, 0.0005, 0.002), believed_fixed=believed_fixed)
    assert set(engine.sizes[-40:-8]) == {8}


def test_without_waiting_they_are_not() -> None:
    engine, _ = play(0.001, 0.02, jittered(8, 0.0005, 0.002), max_wait_s=0.0)
    assert 8 not in engine.sizes[1:]  # the first batch is of those who all came at once


@given(fixed=st.sampled_from([0.0, 0.001, 0.1]), pause=st.sampled_from([0.0, 0.001, 0.1]))
@settings(deadline=None)
def test_a_lone_caller_never_waits(fixed: float, pause: float) -> None:
    _, (answers,) = play(0.01, fixed, [itertools.repeat(pause)], max_wait_s=1.0)
    assert {answer.queued_s for answer in answers} == {0.0}


def test_a_first_estimate_that_is_far_too_high_costs_a_few_waits_only() -> None:
    pauses = [[0.0005, 0.05], [0.0005, 0.05], [0.0005, 0.001]]
    engine, answers = play(0.01, 0.0, [itertools.cycle(pause) for pause in pauses], believed_fixed=5.0)
    late = [caller[len(caller) // 2 :] for caller in answers]
    assert len(engine.sizes) > 50
    assert idle_while_waiting(engine, late) == 0


def test_callers_who_take_longer_than_a_wait_may_last_are_not_awaited_in_vain_again_and_again() -> None:
    _, answers = play(0.001, 0.003, jittered(2, 0.02, 0.04), max_wait_s=0.01, until=4.0)
    without, _ = play(0.001, 0.003, jittered(2, 0.02, 0.04), max_wait_s=0.0, until=4.0)
    assert sum(map(len, answers)) > 0.97 * sum(without.sizes)

"""Several modalities on one device: each has its share of the time, and none delays another beyond that."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.fair_turn import QUANTUM_S
from service.engine.steps import Steps, in_turns
from tests.engine.costed_engine import CostedEngine, come_back, line
from tests.engine.virtual_time import SlotsExecutor, SpendingExecutor, now, run_virtually

SLOW, FAST = line(0.06, 0.0), line(0.013, 0.0)

Modality = tuple[CostedEngine, Batcher[int, int]]


@asynccontextmanager
async def modalities(
    *costs: Callable[[int], float], slots: int = 1
) -> AsyncIterator[tuple[Device, SpendingExecutor, list[Modality]]]:
    """A modality for each cost, all on one device, which runs batches, or single items in several slots."""
    executor = SpendingExecutor()
    beside = SlotsExecutor(slots, executor) if slots > 1 else None
    device = Device("virtual", executor=executor, beside=beside, clock=now)
    engines = [CostedEngine(cost, executor, beside) for cost in costs]
    async with AsyncExitStack() as stack:
        batchers = [engine.batcher(device) for engine in engines]
        for batcher in batchers:
            await stack.enter_async_context(batcher)
        yield device, executor, list(zip(engines, batchers, strict=True))


async def saturate(batcher: Batcher[int, int], until: float) -> None:
    """Sixteen callers, who ask again at once."""
    await asyncio.gather(*[come_back(batcher, itertools.repeat(0.0), until) for _ in range(16)])


def turn_s(cost: Callable[[int], float]) -> float:
    """The longest turn that a modality should have while another wants the device."""
    return max(QUANTUM_S, cost(1)) * 1.1


@pytest.mark.parametrize("costs", [(SLOW, FAST), (line(0.002, 0.02), FAST), (line(0.03, 0.03), line(0.0005, 0.001))])
def test_a_slow_and_a_fast_modality_under_saturation_have_equal_time(
    costs: tuple[Callable[[int], float], Callable[[int], float]],
) -> None:
    async def main() -> None:
        async with modalities(*costs) as (_, _, ((slow, slows), (fast, fasts))):
            await asyncio.gather(saturate(slows, 5.0), saturate(fasts, 5.0))
            for moment in (1.0, 3.0, 5.0):
                first = slow.cost(8)  # the first batch left before anyone else was there
                slack = first + turn_s(slow.cost) + turn_s(fast.cost)
                assert abs(slow.spent_s(moment) - fast.spent_s(moment)) <= slack

    run_virtually(main)


def test_after_a_slow_spell_batches_grow_again() -> None:
    """While the device was slow full batches took too long beside a rival; they are tried again, as it may be over."""

    def cost(size: int) -> float:
        return 0.1 + (0.04 * size if 10.0 <= now() < 20.0 else 0.0)

    async def main() -> None:
        async with modalities(cost, cost) as (_, _, ((one, ones), (_, others))):
            await asyncio.gather(saturate(ones, 60.0), saturate(others, 60.0))
            before, after = (
                sum(size for began, size in one.began if since <= began < since + 8.0) for since in (1.0, 51.0)
            )
            assert after >= 0.9 * before

    run_virtually(main)


@pytest.mark.parametrize("slots", [2, 4, 8])
@pytest.mark.parametrize("costs", [(SLOW, FAST), (line(0.2, 0.0), FAST), (line(0.03, 0.0), line(0.025, 0.0))])
def test_they_have_equal_time_in_slots_too(
    costs: tuple[Callable[[int], float], Callable[[int], float]], slots: int
) -> None:
    async def main() -> None:
        async with modalities(*costs, slots=slots) as (_, _, ((slow, slows), (fast, fasts))):
            await asyncio.gather(saturate(slows, 20.0), saturate(fasts, 20.0))
            for moment in (3.0, 10.0, 20.0):
                slack = slow.cost(8) + slots * (turn_s(slow.cost) + turn_s(fast.cost))
                assert abs(slow.spent_s(moment) - fast.spent_s(moment)) <= slack
                assert slow.spent_s(moment) + fast.spent_s(moment) >= 0.97 * slots * moment

    run_virtually(main)


def test_one_that_runs_in_slots_and_one_that_runs_batches_have_equal_time() -> None:
    async def main() -> None:
        executor = SpendingExecutor()
        beside = SlotsExecutor(4, executor)
        device = Device("virtual", executor=executor, beside=beside, clock=now)
        dealt, together = CostedEngine(line(0.04, 0.0), executor, beside), CostedEngine(line(0.01, 0.0), executor)
        async with dealt.batcher(device) as one, together.batcher(device) as other:
            await asyncio.gather(saturate(one, 20.0), saturate(other, 20.0))
        assert dealt.spent_s(20.0) / 4 == pytest.approx(together.spent_s(20.0), rel=0.2)

    run_virtually(main)


def test_a_light_modality_waits_for_one_short_turn_of_a_saturated_one_at_most() -> None:
    async def main() -> None:
        async with modalities(SLOW, FAST) as (_, _, ((_, slows), (_, fasts))):
            load = asyncio.create_task(saturate(slows, 20.0))
            await asyncio.sleep(1.0)
            queued_s = []
            for _ in range(50):
                queued_s.append((await fasts.submit([1])).queued_s)
                await asyncio.sleep(0.317)
            assert max(queued_s[1:]) <= turn_s(SLOW)  # the first meets a full batch: until then nobody else was there
            await load

    run_virtually(main)


def test_a_modality_that_has_the_device_to_itself_runs_full_batches() -> None:
    async def main() -> None:
        async with modalities(SLOW, FAST) as (_, _, ((slow, slows), _)):
            await saturate(slows, 10.0)
            assert set(slow.sizes[1:-2]) == {8}

    run_virtually(main)


def test_a_modality_whose_only_rival_has_gone_runs_full_batches_again() -> None:
    async def main() -> None:
        async with modalities(SLOW, FAST) as (_, _, ((slow, slows), (_, fasts))):
            await fasts.submit([1])
            await saturate(slows, 20.0)
            assert slow.sizes[:100] == [1] * 100
            assert set(slow.sizes[-8:-2]) == {8}

    run_virtually(main)


def test_batches_are_no_larger_than_a_smaller_size_that_is_cheaper_an_item() -> None:
    async def main() -> None:
        outgrows_caches = lambda size: size * (0.010 if size <= 4 else 0.014)  # noqa: E731
        async with modalities(outgrows_caches) as (_, _, ((engine, batcher),)):
            for callers in (4, 8) * 3:
                await asyncio.gather(*[batcher.submit([0]) for _ in range(callers)])
            assert 8 in engine.sizes
            engine.began.clear()
            await saturate(batcher, now() + 2.0)
            assert set(engine.sizes[1:-2]) == {4}

    run_virtually(main)


def test_loading_goes_on_beside_saturated_modalities_with_a_quarter_of_their_shares() -> None:
    async def main() -> None:
        async with modalities(SLOW, FAST) as (device, executor, ((_, slows), (_, fasts))):

            def loading() -> Steps[float]:
                for _ in range(10):
                    executor.spend(0.1)
                    yield
                return now()

            saturated = [asyncio.create_task(saturate(batcher, 20.0)) for batcher in (slows, fasts)]
            assert await in_turns(loading(), device) == pytest.approx(9.0, abs=1.5)
            await asyncio.gather(*saturated)

    run_virtually(main)


costs = st.builds(line, st.sampled_from([0.002, 0.01, 0.06, 0.2]), st.sampled_from([0.0, 0.001, 0.03, 0.3]))


@given(mix=st.lists(costs, min_size=2, max_size=4), pause=st.sampled_from([0.001, 0.05]))
@settings(max_examples=20, deadline=None)
def test_no_modality_starves_whatever_the_others_cost(mix: list[Callable[[int], float]], pause: float) -> None:
    async def main() -> None:
        async with modalities(*mix) as (_, _, ((light, lights), *heavy)):
            load = [asyncio.create_task(saturate(batcher, 3.0)) for _, batcher in heavy]
            answers = await come_back(lights, itertools.repeat(pause), 3.0)
            others_s = sum(turn_s(engine.cost) for engine, _ in heavy)
            for answer in answers[1:]:
                assert answer.queued_s <= others_s + turn_s(light.cost) * len(heavy)
            await asyncio.gather(*load)

    run_virtually(main)

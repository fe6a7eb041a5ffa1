"""Which items go into a batch, and when it leaves. All in virtual time."""

import asyncio

import pytest

from service.engine.batcher import Answer, Batcher
from service.engine.device import Device
from service.engine.recent_batches import TRAFFIC_S
from tests.engine.scripted_engine import ScriptedEngine, ask, outcomes, serving
from tests.engine.virtual_time import VirtualExecutor, now, run_virtually


def test_a_batch_takes_all_that_came_while_the_device_was_busy_but_no_more_than_its_size() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_size=3) as batcher:
            calls = [ask(batcher, [0])]
            await asyncio.sleep(0.5)
            calls += [ask(batcher, [item]) for item in range(1, 6)]
            await outcomes(calls)
        assert engine.batches == [[0], [1, 2, 3], [4, 5]]

    run_virtually(main)


def test_a_large_upload_does_not_starve_small_ones() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_size=4) as batcher:
            large = ask(batcher, range(100))
            await asyncio.sleep(0.5)
            small = [ask(batcher, [item]) for item in (200, 300, 400)]
            await outcomes(small)
            assert now() == 2.0
            assert engine.batches == [[0, 1, 2, 3], [4, 200, 300, 400]]
            assert (await large).results == [10 * item for item in range(100)]

    run_virtually(main)


def test_many_large_uploads_do_not_starve_a_small_one() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_size=2) as batcher:
            large = [ask(batcher, [100 * k + tile for tile in range(10)]) for k in range(1, 5)]
            small = ask(batcher, [7])
            await small
            assert engine.batches == [[100, 200], [300, 400], [7, 101]]
            await outcomes(large)

    run_virtually(main)


# --- waiting for mates ----------------------------------------------------------------------------------------------


def test_a_lone_request_on_an_idle_engine_does_not_wait() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=100.0) as batcher:
            assert (await batcher.submit([1])).queued_s == 0.0
            assert now() == 1.0

    run_virtually(main)


def test_a_lone_caller_who_asks_again_and_again_never_waits() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=100.0) as batcher:
            answers = [await batcher.submit([item]) for item in range(5)]
            assert [answer.queued_s for answer in answers] == [0.0] * 5

    run_virtually(main)


def test_a_lone_caller_of_many_items_never_waits() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=100.0) as batcher:
            answers = [await batcher.submit(range(5)) for _ in range(3)]
            assert [answer.queued_s for answer in answers] == [0.0] * 3

    run_virtually(main)


async def _come_back(batcher: Batcher[int, int], item: int, delay: float) -> Answer[int]:
    await asyncio.sleep(delay)
    return await batcher.submit([item])


async def _traffic(batcher: Batcher[int, int], callers: int) -> None:
    """Let `callers` callers be answered by one batch."""
    await outcomes([ask(batcher, [item]) for item in range(callers)])


def test_callers_who_were_answered_together_are_awaited_and_no_longer_than_until_the_last_is_back() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 3)
            first, *_, last = await asyncio.gather(*[_come_back(batcher, k, k / 100) for k in range(3)])
            assert [first.queued_s, last.queued_s] == pytest.approx([0.02, 0.0])
            assert engine.batches == [[0, 1, 2], [0, 1, 2]]

    run_virtually(main)


def test_a_caller_whose_mates_do_not_come_back_waits_no_longer_than_max_wait_and_only_once() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 3)
            assert (await batcher.submit([1])).queued_s == pytest.approx(0.1)
            assert (await batcher.submit([1])).queued_s == 0.0

    run_virtually(main)


def test_waiting_counts_from_the_oldest_arrival_even_if_others_keep_coming() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 8)
            answers = await asyncio.gather(*[_come_back(batcher, k, 0.03 * k) for k in range(7)])
            assert answers[0].queued_s == pytest.approx(0.1)
            assert answers[0].batch_size == 4

    run_virtually(main)


def test_the_wait_for_mates_begins_when_the_device_is_free() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            running = asyncio.create_task(_traffic(batcher, 3))
            answers = await asyncio.gather(*[_come_back(batcher, k, 0.94 + k / 20) for k in range(2)])
            assert [answer.queued_s for answer in answers] == pytest.approx([0.16, 0.11])
            await running

    run_virtually(main)


def test_those_who_waited_behind_a_running_batch_are_joined_by_its_callers() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_wait_s=0.1) as batcher:
            running = asyncio.create_task(_traffic(batcher, 3))
            late = asyncio.create_task(_come_back(batcher, 5, 0.5))
            await running
            back = await asyncio.gather(*[_come_back(batcher, k, 0.01) for k in range(3)])
            assert [answer.queued_s for answer in back] == [0.0] * 3
            assert (await late).queued_s == pytest.approx(0.51)
            assert engine.batches == [[0, 1, 2], [5, 0, 1, 2]]

    run_virtually(main)


def test_callers_who_have_been_slow_to_come_back_are_not_awaited() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            for _ in range(2):
                await _traffic(batcher, 3)
                await asyncio.sleep(0.15)
            await _traffic(batcher, 3)
            assert (await batcher.submit([1])).queued_s == 0.0

    run_virtually(main)


def test_a_full_batch_does_not_wait_for_further_mates() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=4, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 4)
            assert (await batcher.submit(range(4))).queued_s == 0.0

    run_virtually(main)


def test_after_a_pause_nobody_is_awaited() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 3)
            await asyncio.sleep(TRAFFIC_S)
            assert (await batcher.submit([1])).queued_s == 0.0

    run_virtually(main)


def test_closing_the_intake_ends_the_wait_for_mates() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 3)
            call = ask(batcher, [1])
            await asyncio.sleep(0.05)
            batcher.close_intake()
            assert (await call).queued_s == pytest.approx(0.05)

    run_virtually(main)


def test_when_the_only_caller_leaves_while_mates_are_awaited_the_next_one_is_served() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_wait_s=0.1) as batcher:
            await _traffic(batcher, 3)
            leaving = ask(batcher, [1])
            await asyncio.sleep(0.01)
            leaving.cancel()
            await outcomes([leaving])
            await asyncio.sleep(0.01)
            assert (await batcher.submit([2])).results == [20]
        assert engine.batches == [[0, 1, 2], [2]]

    run_virtually(main)


# --- one device, several batchers -----------------------------------------------------------------------------------


def test_batchers_that_share_a_device_take_turns_and_form_their_batches_when_it_is_theirs() -> None:
    async def main() -> None:
        retina, skin = ScriptedEngine(), ScriptedEngine()
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        async with (
            Batcher(retina.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now) as retinas,
            Batcher(skin.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now) as skins,
        ):
            calls = [ask(retinas, [item]) for item in range(6)]
            await asyncio.sleep(0.2)
            first = ask(skins, [7])
            await asyncio.sleep(0.2)
            second = ask(skins, [8])
            assert [(await call).queued_s for call in (first, second)] == pytest.approx([0.8, 0.6])
            assert now() == 2.0
            await outcomes(calls)
        assert (len(retina.batches), skin.batches) == (3, [[7, 8]])

    run_virtually(main)


def test_a_batcher_whose_device_others_have_does_not_wait_for_mates_beyond_their_turn() -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(0.05), clock=now)
        run, costs = ScriptedEngine().run, {1: 0.05, 2: 0.05}
        async with (
            Batcher(
                run, device=device, max_size=8, max_wait_s=0.05, max_queued=8, first_costs=costs, clock=now
            ) as retinas,
            Batcher(
                run, device=device, max_size=8, max_wait_s=0.05, max_queued=8, first_costs=costs, clock=now
            ) as skins,
        ):
            await _traffic(retinas, 2)
            other = ask(skins, [1])
            await asyncio.sleep(0.02)
            assert (await retinas.submit([2])).queued_s == pytest.approx(0.03)  # its mate would be awaited for 0.05
            await outcomes([other])

    run_virtually(main)


def test_a_batcher_that_waits_for_mates_leaves_the_device_to_others() -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(0.1), clock=now)
        run, costs = ScriptedEngine().run, {1: 0.1, 2: 0.1}
        async with (
            Batcher(
                run, device=device, max_size=8, max_wait_s=0.1, max_queued=8, first_costs=costs, clock=now
            ) as retinas,
            Batcher(
                run, device=device, max_size=8, max_wait_s=0.1, max_queued=8, first_costs=costs, clock=now
            ) as skins,
        ):
            await _traffic(retinas, 3)
            waiting = ask(retinas, [1])
            await asyncio.sleep(0.05)
            assert (await skins.submit([2])).queued_s == 0.0
            assert (await waiting).queued_s == pytest.approx(0.15)  # for 0.1 s for mates, and then for the other

    run_virtually(main)

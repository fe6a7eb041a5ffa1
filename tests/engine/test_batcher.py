"""Callers come and go: admission, answers, deadlines, cancellation, shutdown. All in virtual time."""

import asyncio
import gc
import weakref

import pytest

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.errors import DeadlineExceeded, DeviceLost, Overloaded, ShuttingDown
from tests.engine.scripted_engine import Call, ScriptedEngine, ask, has_room, outcomes, serving
from tests.engine.virtual_time import VirtualExecutor, now, run_virtually


def test_every_caller_gets_its_own_results_in_its_own_order() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=4) as batcher:
            calls = [ask(batcher, items) for items in ([1], [2, 3, 4, 5, 6], [7, 8], [9])]
            assert await outcomes(calls) == [[10], [20, 30, 40, 50, 60], [70, 80], [90]]

    run_virtually(main)


def test_an_answer_tells_how_long_it_queued_and_ran_and_in_how_large_a_batch() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0, max_size=3) as batcher:
            first = ask(batcher, [1])
            await asyncio.sleep(0.5)
            large = ask(batcher, [2, 3, 4, 5])
            assert ((await first).queued_s, (await first).ran_s, (await first).batch_size) == (0.0, 2.0, 1)
            assert ((await large).queued_s, (await large).ran_s, (await large).batch_size) == (1.5, 4.0, 3)

    run_virtually(main)


def test_an_upload_without_items_is_a_mistake_of_the_caller() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run) as batcher:
            with pytest.raises(ValueError, match="at least one item"):
                await batcher.submit([])

    run_virtually(main)


def test_changing_the_list_after_submitting_changes_nothing() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=1) as batcher:
            items = [1, 2]
            call = asyncio.create_task(batcher.submit(items))
            await asyncio.sleep(0.5)
            items.clear()
            assert (await call).results == [10, 20]

    run_virtually(main)


# --- a full queue ---------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once_and_what_was_admitted_is_answered() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_queued=64) as batcher:
            calls = [ask(batcher, [item]) for item in range(400)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sum(call.done() for call in calls) == 336
            ends = await outcomes(calls)
            assert ends[:64] == [[10 * item] for item in range(64)]
            assert all(isinstance(end, Overloaded) for end in ends[64:])
            assert now() == 8.0
        assert sorted(engine.items) == list(range(64))

    run_virtually(main)


def test_an_upload_counts_as_queued_until_its_last_item_is_in_a_batch() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=2, max_queued=1) as batcher:
            large = ask(batcher, [1, 2, 3, 4, 5])
            await asyncio.sleep(1.5)
            assert (batcher.queued, has_room(batcher)) == (1, False)
            with pytest.raises(Overloaded):
                await batcher.submit([6])
            await asyncio.sleep(1.0)
            assert (batcher.queued, has_room(batcher)) == (0, True)
            assert (await batcher.submit([6])).results == [60]
            await large

    run_virtually(main)


def test_the_refused_are_told_when_the_queue_will_be_through() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=5.0, max_size=2, max_queued=4) as batcher:
            await outcomes([ask(batcher, [item, item]) for item in range(4)])
            await asyncio.sleep(3600)  # an idle hour does not count
            calls = [ask(batcher, [item]) for item in range(4)]
            await asyncio.sleep(0)
            asked = now()
            with pytest.raises(Overloaded, match="try again in 10 s") as refusal:
                await batcher.submit([9])
            await outcomes(calls)
            assert refusal.value.retry_after_s == pytest.approx(now() - asked)

    run_virtually(main)


def test_the_refused_are_told_whole_seconds_and_never_too_few() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=1.25, max_size=2, max_queued=4) as batcher:
            calls = [ask(batcher, [item]) for item in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="try again in 3 s") as refusal:
                batcher.admit(None)
            assert refusal.value.retry_after_s == pytest.approx(2.5)
            await outcomes(calls)

    run_virtually(main)


def test_what_the_refused_are_told_follows_the_last_batch_though_the_queue_is_the_same() -> None:
    def told(batcher: Batcher[int, int]) -> float:
        with pytest.raises(Overloaded) as refused:
            batcher.admit(None)
        return refused.value.retry_after_s

    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(5.0), clock=now)
        engine, costs = ScriptedEngine(), {1: 2.0, 2: 2.0}
        async with Batcher(
            engine.run, device=device, max_size=1, max_wait_s=0, max_queued=1, first_costs=costs, clock=now
        ) as batcher:
            call = ask(batcher, range(4))
            await asyncio.sleep(0.1)
            assert told(batcher) == pytest.approx(3 * 2.0)
            async with device.turns.share():  # whose turn comes once the batch has ended
                assert now() == 5.0
                assert told(batcher) == pytest.approx(3 * 5.0)
            await call

    run_virtually(main)


def test_behind_uploads_of_many_items_the_refused_are_told_how_long_those_take() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_queued=10) as batcher:
            await outcomes([ask(batcher, [item]) for item in range(8)])
            calls = [ask(batcher, range(16)) for _ in range(10)]
            await asyncio.sleep(0)
            asked = now()
            with pytest.raises(Overloaded) as refused:
                batcher.admit(None)
            await outcomes(calls)
            assert refused.value.retry_after_s == pytest.approx(now() - asked)

    run_virtually(main)


@pytest.mark.parametrize("items", [1, 4])
def test_where_decoding_takes_longest_the_refused_are_told_how_long_that_takes(items: int) -> None:
    async def decode(batcher: Batcher[int, int], seconds: float) -> None:
        since = now()
        await asyncio.sleep(seconds)
        await batcher.submit(range(items), since=since)

    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=0.05, max_queued=4) as batcher:
            calls = [asyncio.create_task(decode(batcher, 2.0 * (number + 1))) for number in range(7)]
            await asyncio.gather(*calls[:3])
            asked = now()
            with pytest.raises(Overloaded) as refused:
                batcher.admit(None, ahead=4)
            await asyncio.gather(*calls)
            assert refused.value.retry_after_s == pytest.approx(now() - asked, abs=0.2)

    run_virtually(main)


def test_of_a_batch_the_upload_that_was_decoded_for_longest_tells_whether_the_queue_stood_empty_for_it() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=0.1, max_queued=4) as batcher:
            await batcher.submit([0])
            await asyncio.sleep(2.0)
            await asyncio.gather(batcher.submit([1], since=0.05), batcher.submit([2], since=2.0))
            with pytest.raises(Overloaded) as refused:
                batcher.admit(None, ahead=4)
            assert refused.value.retry_after_s == pytest.approx(0.1 + 4 * 2.0 / 2)

    run_virtually(main)


def test_what_the_refused_are_told_follows_the_queue() -> None:
    def told(batcher: Batcher[int, int]) -> float:
        with pytest.raises(Overloaded) as refused:
            batcher.admit(None)
        return refused.value.retry_after_s

    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=1, max_queued=2) as batcher:
            await outcomes([ask(batcher, [0])])
            running = ask(batcher, [0])
            await asyncio.sleep(0.1)
            small = [ask(batcher, [item]) for item in (1, 2)]
            await asyncio.sleep(0.1)
            behind_small = told(batcher)
            for call in small:
                call.cancel()
            await asyncio.sleep(0.1)
            large = [ask(batcher, range(12)) for _ in range(2)]
            await asyncio.sleep(0.1)
            behind_large = told(batcher)
            await running
            await asyncio.sleep(4)
            assert behind_small < told(batcher) < behind_large
            await outcomes(large)

    run_virtually(main)


def test_what_the_refused_are_told_counts_who_is_on_the_way_at_that_moment() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=1, max_queued=2) as batcher:
            calls = [ask(batcher, [0])]
            await asyncio.sleep(0.1)
            calls += [ask(batcher, [item]) for item in (1, 2)]
            await asyncio.sleep(0.1)
            told = []
            for ahead in (0, 6):
                with pytest.raises(Overloaded) as refused:
                    batcher.admit(None, ahead=ahead)
                told.append(refused.value.retry_after_s)
            assert told == pytest.approx([2.0, 8.0])
            await outcomes(calls)

    run_virtually(main)


def test_time_in_which_others_had_the_device_counts_for_the_refused() -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        engine = ScriptedEngine()
        async with Batcher(engine.run, device=device, max_size=2, max_wait_s=0, max_queued=2, clock=now) as batcher:
            async with device.turns.share():
                calls = [ask(batcher, [1])]
                await asyncio.sleep(4)
                calls.append(ask(batcher, [2]))
                await asyncio.sleep(1)
            await outcomes(calls)  # two uploads in 6 s
            calls = [ask(batcher, [item]) for item in (3, 4)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as refusal:
                await batcher.submit([5])
            assert refusal.value.retry_after_s == pytest.approx(6.0)
            await outcomes(calls)

    run_virtually(main)


def test_items_of_all_uploads_are_bounded_but_one_upload_may_have_any_number() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_queued=2) as batcher:
            large = ask(batcher, list(range(100)))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="100 pieces of other uploads"):
                await batcher.submit([200])
            assert len((await large).results) == 100
            calls = [ask(batcher, list(range(16))) for _ in range(3)]
            ends = await outcomes(calls)
            assert [isinstance(end, Overloaded) for end in ends] == [False, False, True]
        assert 200 not in engine.items

    run_virtually(main)


def test_items_that_run_count_among_those_that_are_held() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_queued=1) as batcher:
            runs = ask(batcher, range(8))
            await asyncio.sleep(0.1)
            assert batcher.queued == 0
            with pytest.raises(Overloaded, match="8 pieces of other uploads"):
                await batcher.submit(range(9))
            waits = ask(batcher, range(8))
            assert [len((await call).results) for call in (runs, waits)] == [8, 8]

    run_virtually(main)


def test_whether_an_upload_would_be_admitted_can_be_asked_before_it_is_decoded() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_queued=3) as batcher:
            call = ask(batcher, [1])
            await asyncio.sleep(0)
            batcher.admit(None, ahead=1)
            with pytest.raises(Overloaded, match="3 uploads wait"):
                batcher.admit(None, ahead=2)
            assert batcher.queued == 1
            await call
            with pytest.raises(DeadlineExceeded):
                batcher.admit(0.5)
        with pytest.raises(ShuttingDown):
            batcher.admit(None)

    run_virtually(main)


# --- deadlines ------------------------------------------------------------------------------------------------------


def test_a_deadline_is_kept_while_a_batch_runs_and_the_upload_is_never_run() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run) as batcher:
            busy = ask(batcher, [1])
            await asyncio.sleep(0.1)
            with pytest.raises(DeadlineExceeded):
                await batcher.submit([2], deadline=0.4)
            assert (now(), batcher.queued) == (0.4, 0)
            await busy
        assert engine.items == [1]

    run_virtually(main)


def test_a_deadline_is_kept_while_the_upload_itself_runs_and_its_other_items_are_not_begun() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_size=2) as batcher:
            with pytest.raises(DeadlineExceeded):
                await batcher.submit([1, 2, 3, 4, 5], deadline=0.3)
            assert now() == 0.3
        assert engine.items == [1, 2]

    run_virtually(main)


def test_a_deadline_that_has_passed_is_refused_without_queueing() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run) as batcher:
            await asyncio.sleep(1)
            for deadline in (0.5, 1.0):
                call = ask(batcher, [1], deadline=deadline)
                await asyncio.sleep(0)
                assert batcher.queued == 0
                assert [type(end) for end in await outcomes([call])] == [DeadlineExceeded]
        assert engine.items == []

    run_virtually(main)


def test_an_answered_upload_is_not_kept_until_its_deadline() -> None:
    class Pixels:
        """Something that takes much memory."""

    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        batcher: Batcher[Pixels, int] = Batcher(
            lambda items: [len(items)], device=device, max_size=8, max_wait_s=0, max_queued=8, clock=now
        )
        async with batcher:
            pixels = Pixels()
            kept = weakref.ref(pixels)
            call = asyncio.create_task(batcher.submit([pixels], deadline=100.0))
            del pixels
            assert (await call).results == [1]
            await asyncio.sleep(1)
            assert kept() is None

    run_virtually(main)


def test_nothing_keeps_a_batcher_that_is_over() -> None:
    """Its engine is let go of where and when the last who knows it says, and not by whoever collects garbage."""

    async def main() -> None:
        async with serving(ScriptedEngine().run) as batcher:
            assert await outcomes([ask(batcher, [1])]) == [[10]]
            kept = weakref.ref(batcher)
        await asyncio.sleep(1)
        del batcher
        assert kept() is None

    gc.disable()
    try:
        run_virtually(main)
    finally:
        gc.enable()


# --- callers who leave ----------------------------------------------------------------------------------------------


def test_callers_who_leave_the_queue_are_never_run() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run) as batcher:
            staying = ask(batcher, [0])
            await asyncio.sleep(0.5)
            leaving = [ask(batcher, [item, item]) for item in range(1, 17)]
            await asyncio.sleep(0.1)
            for call in leaving:
                call.cancel()
            await outcomes(leaving)
            assert batcher.queued == 0
            assert (await staying).results == [0]
        assert engine.items == [0]

    run_virtually(main)


def test_who_leaves_in_the_moment_in_which_the_batch_is_formed_leaves_its_place_to_the_next() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with serving(engine.run, max_size=2) as batcher:
            calls = [ask(batcher, [item]) for item in (1, 2, 3)]
            await asyncio.sleep(0)  # all have submitted; the batch is formed next
            calls[0].cancel()
            await outcomes(calls)
        assert engine.batches == [[2, 3]]

    run_virtually(main)


def test_a_cancelled_caller_does_not_disturb_its_batch_mates() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run) as batcher:
            for _ in range(200):
                calls = [ask(batcher, [item]) for item in range(8)]
                await asyncio.sleep(0.5)
                for call in calls[::2]:
                    call.cancel()
                assert (await outcomes(calls))[1::2] == [[10], [30], [50], [70]]

    run_virtually(main)


def test_a_batch_whose_callers_have_all_left_is_not_run() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        async with (
            device,
            Batcher(engine.run, device=device, max_size=8, max_wait_s=0, max_queued=8, clock=now) as batcher,
        ):
            async with device.turns.share():
                call = ask(batcher, [1])
                await asyncio.sleep(1)
                call.cancel()
            await outcomes([call])
        assert (engine.items, now()) == ([], 1.0)

    run_virtually(main)


# --- shutdown -------------------------------------------------------------------------------------------------------


def test_leaving_answers_what_is_queued_and_then_refuses() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run) as batcher:
            calls = [ask(batcher, [item]) for item in range(24)]
            await asyncio.sleep(0)
        assert [call.result().results for call in calls] == [[10 * item] for item in range(24)]
        with pytest.raises(ShuttingDown):
            await batcher.submit([1])

    run_virtually(main)


def test_closing_the_intake_refuses_new_work_while_queued_work_goes_on() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run) as batcher:
            call = ask(batcher, range(20))
            await asyncio.sleep(0.5)
            assert has_room(batcher)
            batcher.close_intake()
            batcher.close_intake()  # SIGTERM may come twice
            assert not has_room(batcher)
            with pytest.raises(ShuttingDown):
                await batcher.submit([1])
            assert (await call).results == [10 * item for item in range(20)]

    run_virtually(main)


def test_a_batcher_that_was_not_entered_refuses() -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        batcher = Batcher(ScriptedEngine().run, device=device, max_size=8, max_wait_s=0, max_queued=8, clock=now)
        with pytest.raises(ShuttingDown):
            await batcher.submit([1])

    run_virtually(main)


def _serving_tasks() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "batcher on virtual"]


def test_when_the_time_to_drain_is_over_those_who_wait_are_told_so_at_once() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        calls: list[Call] = []

        async def serve() -> None:
            try:
                async with serving(engine.run, max_size=1) as batcher:
                    calls.extend(ask(batcher, [item]) for item in range(5))
                    await asyncio.sleep(0)
            finally:
                assert not _serving_tasks()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(serve(), timeout=2.5)
        ends = await outcomes(calls)
        assert now() == 2.5
        assert ends[:2] == [[0], [10]]
        assert [type(end) for end in ends[2:]] == [ShuttingDown] * 3
        await asyncio.sleep(10)
        assert engine.items == [0, 1, 2]

    run_virtually(main)


def test_if_the_serving_task_is_cancelled_nobody_is_left_hanging() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, max_size=2) as batcher:
            calls = [ask(batcher, [item]) for item in range(5)]
            await asyncio.sleep(0.5)
            assert [task.cancel() for task in _serving_tasks()] == [True]
            assert [type(end) for end in await outcomes(calls)] == [DeviceLost] * 5
            with pytest.raises(DeviceLost) as refusal:
                await batcher.submit([1])
            assert isinstance(refusal.value.__cause__, asyncio.CancelledError)

    run_virtually(main)


def test_if_the_event_loop_ends_in_the_middle_nobody_is_left_hanging() -> None:
    calls: list[Call] = []

    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        batcher = Batcher(ScriptedEngine().run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now)
        await batcher.__aenter__()
        calls.extend(ask(batcher, [item]) for item in range(5))
        await asyncio.sleep(0.5)

    with pytest.raises(AssertionError, match="left behind"):
        run_virtually(main)
    assert all(call.done() for call in calls)

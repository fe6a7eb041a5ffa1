"""What the refused are told: of batches of 8 at most that cost 2 s however large they are, unless a test says else."""

import asyncio
from collections.abc import Sequence

import pytest

from service.engine.batcher import Batcher
from service.engine.cost_curve import CostCurve
from service.engine.device import Device
from service.engine.drain import WINDOW, Drain
from service.errors import Overloaded
from tests.engine.costed_engine import CostedEngine, come_back, line
from tests.engine.scripted_engine import ScriptedEngine, ask, has_room, outcomes, serving
from tests.engine.virtual_time import SpendingExecutor, now, run_virtually

FLAT = {1: 2.0, 8: 2.0}
LINE = {1: 2.0, 8: 16.0}
TRAVEL_S = 0.01


def drain(costs: dict[int, float] | None = None) -> Drain:
    return Drain(CostCurve(FLAT if costs is None else costs))


def place_s(rule: Drain, left: Sequence[int], ahead: int = 0) -> float:
    return rule.until_place_s(left, ahead=ahead, largest=8)


def test_before_the_first_batch_the_advice_goes_by_what_batches_cost() -> None:
    assert place_s(drain(FLAT), [1] * 32) == pytest.approx(8.0)
    assert place_s(drain(FLAT), [1] * 33) == pytest.approx(10.0)
    assert place_s(drain(LINE), [1] * 16) == pytest.approx(32.0)


def test_a_batch_that_is_not_full_takes_less_where_items_cost_much() -> None:
    assert place_s(drain(LINE), [1] * 4) == pytest.approx(8.0)
    assert place_s(drain(LINE), [1] * 9) == pytest.approx(2 * 10.0)  # five and four, of which the larger tells


def test_where_nothing_is_known_the_advice_is_one_second() -> None:
    assert place_s(drain({}), [1] * 64) == 1.0


def test_where_no_costs_are_known_batches_last_in_proportion_to_what_they_hold() -> None:
    rule = drain({})
    rule.record(since=0.0, arrived=0.0, ended=1.0, items=4, uploads=4)
    assert place_s(rule, [1] * 32) == pytest.approx(8.0)


@pytest.mark.parametrize(("costs", "advice"), [({1: 0.2, 8: 0.1}, 4.0), ({1: 0.1, 8: 2.0}, 32.0)])
def test_whatever_the_warm_up_said_a_full_batch_lasts_from_as_long_as_a_lone_one_to_in_proportion(
    costs: dict[int, float], advice: float
) -> None:
    rule = drain(costs)
    rule.record(since=0.0, arrived=0.0, ended=1.0, items=1, uploads=1)
    assert place_s(rule, [1] * 32) == pytest.approx(advice)


@pytest.mark.parametrize(("costs", "advice"), [(LINE, 8.0), (FLAT, 32.0)])
def test_after_full_batches_a_small_one_is_expected_to_last_as_much_less_as_it_costs_less(
    costs: dict[int, float], advice: float
) -> None:
    rule = drain(costs)
    rule.record(since=0.0, arrived=0.0, ended=32.0, items=8, uploads=8)
    assert place_s(rule, [1] * 2) == pytest.approx(advice)


def test_batches_are_counted_since_each_may_change_the_advice() -> None:
    rule = drain()
    for count in (1, 2):
        rule.record(since=0.0, arrived=0.0, ended=2.0 * count, items=1, uploads=1)
        assert rule.batches == count


def test_full_batches_tell_more_than_lone_ones() -> None:
    rule = drain()
    rule.record(since=0.0, arrived=0.0, ended=2.0, items=1, uploads=1)
    rule.record(since=0.0, arrived=0.0, ended=7.0, items=8, uploads=8)
    assert place_s(rule, [1] * 8) == pytest.approx((1 * 2.0 + 8 * 5.0) / 9)


def test_a_batch_that_was_dealt_out_on_an_idle_device_is_no_sign_of_haste() -> None:
    rule = drain(LINE)
    rule.record(since=0.0, arrived=0.0, ended=0.0, items=2, uploads=2)
    assert place_s(rule, [1] * 8) == pytest.approx(16.0)


def test_for_uploads_that_are_decoded_the_time_counts_in_which_the_queue_stood_empty_for_such() -> None:
    rule = drain()
    for number in range(3):
        rule.record(since=0.0, arrived=5.0 * number + 3.0, ended=5.0 * number + 5.0, items=2, uploads=2)
    assert place_s(rule, [1] * 4, ahead=4) == pytest.approx(2.0 + 4 * 3.0 / 2)


def test_for_uploads_that_came_while_a_batch_ran_the_queue_stood_empty_for_no_time() -> None:
    rule = drain()
    for arrived, ended in [(3.0, 5.0), (1.0, 7.0), (10.0, 12.0)]:
        rule.record(since=0.0, arrived=arrived, ended=ended, items=2, uploads=2)
    assert place_s(rule, [1] * 4, ahead=4) == pytest.approx(2.0 + 4 * 3.0 / 4)


@pytest.mark.parametrize(("cost", "advice"), [(0.001, 1.0), (1000.0, 60.0)])
def test_the_advice_is_between_one_second_and_a_minute(cost: float, advice: float) -> None:
    assert place_s(drain({1: cost, 8: cost}), [1]) == advice


def test_a_lone_upload_in_a_batch_is_not_taken_for_all_that_the_device_can_do() -> None:
    rule = drain()
    for number in range(WINDOW):
        rule.record(since=number * 60.0, arrived=number * 60.0 + 1.0, ended=number * 60.0 + 3.0, items=1, uploads=1)
    assert place_s(rule, [1] * 64) == pytest.approx(16.0)


def test_one_large_upload_keeps_nobody_away_for_longer_than_its_turns_take() -> None:
    assert place_s(drain(), [81, *[1] * 7]) == pytest.approx(2.0)


def test_uploads_that_are_still_decoded_are_taken_for_one_item_each() -> None:
    assert place_s(drain(), [81], ahead=7) == pytest.approx(2.0)


def test_the_refused_come_back_when_a_quarter_of_those_that_wait_is_through() -> None:
    assert place_s(drain(), [1, 1, 10, 10, 10, 10, 10, 10]) == pytest.approx(2.0)
    assert place_s(drain(), [1, 10, 10, 10, 10, 10, 10, 10]) == pytest.approx(18.0)
    assert place_s(drain(), [10, 10, 10, 10, 10, 10, 1, 1]) == pytest.approx(2.0)


def test_batches_that_took_longer_as_others_had_the_device_let_the_advice_grow() -> None:
    rule = drain()
    for number in range(3):
        rule.record(since=0.0, arrived=0.0, ended=5.0 * (number + 1), items=8, uploads=8)
    assert place_s(rule, [1] * 32) == pytest.approx(20.0)


def test_each_batch_may_change_advice_that_was_given_before() -> None:
    rule = drain()
    assert place_s(rule, [1] * 32) == pytest.approx(8.0)
    rule.record(since=0.0, arrived=0.0, ended=5.0, items=8, uploads=8)
    assert place_s(rule, [1] * 32) == pytest.approx(20.0)


def test_only_the_last_batches_count() -> None:
    rule = drain()
    for number in range(10):
        rule.record(since=0.0, arrived=0.0, ended=100.0 * (number + 1), items=8, uploads=8)
    for number in range(WINDOW):
        rule.record(since=0.0, arrived=0.0, ended=1002.0 + 2.0 * number, items=8, uploads=8)
    assert place_s(rule, [1] * 32) == pytest.approx(8.0)


def test_room_is_there_once_uploads_that_hold_enough_items_are_through() -> None:
    held = [(0, 4), (4, 4), (8, 8), (80, 80)]
    times = [drain().until_freed_s(held, items=items, largest=8) for items in (1, 5, 9, 17, 1000)]
    assert times == pytest.approx([2.0, 4.0, 6.0, 24.0, 24.0])


def test_what_has_run_of_uploads_counts_no_more_for_how_long_the_others_take() -> None:
    assert drain().until_freed_s([(8, 80), (16, 16)], items=81, largest=8) == pytest.approx(6.0)


# --- in a batcher: whoever comes back when told finds a place, and not long after there was one -----------------------


async def burst(batcher: Batcher[int, int], *, callers: int = 100, slack_s: float = 2.0) -> None:
    """Let many send one item each. Those who are refused come back when told, and find a place.

    The last of those who were not refused has its answer at most `slack_s` before.
    """
    began, calls = now(), [ask(batcher, [number]) for number in range(callers)]
    await asyncio.sleep(TRAVEL_S)
    refused = [call.exception() for call in calls if call.done()]
    advice = {error.retry_after_s for error in refused if isinstance(error, Overloaded)}
    assert advice
    answered = asyncio.ensure_future(outcomes(calls))
    await asyncio.sleep(max(advice))
    assert has_room(batcher)
    await answered
    assert max(advice) <= now() - began + slack_s


def test_in_the_first_burst_of_all_the_advice_is_right() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0) as batcher:
            await burst(batcher)

    run_virtually(main)


def test_after_lone_uploads_the_advice_is_right() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0) as batcher:
            for _ in range(WINDOW):
                await batcher.submit([0])
            await burst(batcher)

    run_virtually(main)


def test_at_full_load_the_advice_is_right() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0) as batcher:
            await outcomes([ask(batcher, [number]) for number in range(64)])
            await burst(batcher)

    run_virtually(main)


def test_beside_one_large_upload_the_advice_is_right_and_the_large_one_still_runs() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0, max_size=4, max_queued=6) as batcher:
            large = ask(batcher, range(81))
            await asyncio.sleep(11.0)
            await burst(batcher, callers=16)
            assert not large.done()
            await large

    run_virtually(main)


def test_with_too_many_items_for_all_the_advice_is_right() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0, max_queued=6) as batcher:
            calls = [ask(batcher, range(items)) for items in (16, 80)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="pieces") as refused:
                await batcher.submit(range(16))
            assert refused.value.retry_after_s == pytest.approx(8.0)
            await asyncio.sleep(8.0 + TRAVEL_S)
            await batcher.submit(range(16))
            await outcomes(calls)

    run_virtually(main)


def test_with_too_many_items_for_all_what_is_left_of_the_others_counts() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine().run, seconds=2.0, max_queued=6) as batcher:
            calls = [ask(batcher, range(items)) for items in (16, 80)]
            await asyncio.sleep(4.0 + TRAVEL_S)  # the third batch runs, and the smaller one has a quarter left
            with pytest.raises(Overloaded, match="pieces") as refused:
                await batcher.submit(range(16))
            assert refused.value.retry_after_s == pytest.approx(2.0)
            await outcomes(calls)

    run_virtually(main)


def test_beside_another_modality_that_always_wants_the_device_the_advice_is_right() -> None:
    async def main() -> None:
        executor = SpendingExecutor()
        device = Device("virtual", executor=executor, clock=now)
        ours, others = (CostedEngine(line(each=0.05, fixed=0.4), executor) for _ in range(2))
        async with ours.batcher(device) as batcher, others.batcher(device) as rival:
            rivals = [asyncio.create_task(come_back(rival, iter([0.0] * 10_000), 120.0)) for _ in range(16)]
            await outcomes([ask(batcher, [number]) for number in range(32)])
            await burst(batcher)
            await asyncio.gather(*rivals)

    run_virtually(main)

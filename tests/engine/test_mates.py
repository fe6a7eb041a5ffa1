"""When it pays to wait for batch mates: a batch costs 1 s an item and 4 s besides, or nothing besides."""

import pytest

from service.engine.cost_curve import CostCurve
from service.engine.mates import Mates
from service.engine.recent_batches import RecentBatches


def mates(*, fixed: float = 4.0, max_wait_s: float = 100.0, back_after: float | None = None) -> Mates:
    """The last batch ended at 100, answered 8 and left nobody waiting."""
    recent = RecentBatches()
    recent.record(ended=50.0, finished=1, waiting=0)
    if back_after is not None:
        recent.upload_came(50.0 + back_after)
    else:
        recent = RecentBatches()
    recent.record(ended=100.0, finished=8, waiting=0)
    costs = CostCurve({size: size + fixed for size in (1, 2, 4, 8)})
    return Mates(recent, costs, max_wait_s)


def test_those_who_are_expected_are_worth_waiting_for_until_they_are_there() -> None:
    worth = [mates().are_worth_waiting_for(100.1, oldest=100.1, waiting=waiting, room=8) for waiting in (1, 7, 8, 9)]
    assert worth == [True, True, False, False]


def test_nobody_is_worth_waiting_for_who_would_find_no_room() -> None:
    assert not mates().are_worth_waiting_for(100.1, oldest=100.1, waiting=4, room=4)


@pytest.mark.parametrize(
    ("fixed", "max_wait_s", "wait_s"), [(4.0, 100.0, 4.0), (4.0, 0.0625, 0.0625), (0.0, 100.0, 0.0)]
)
def test_no_wait_is_longer_than_the_fixed_cost_or_the_limit(fixed: float, max_wait_s: float, wait_s: float) -> None:
    rule = mates(fixed=fixed, max_wait_s=max_wait_s)
    assert rule.give_up_at(oldest=100.125) == 100.125 + wait_s
    assert not rule.are_worth_waiting_for(100.125 + wait_s, oldest=100.125, waiting=1, room=8)


def test_the_wait_of_one_who_came_while_the_device_was_busy_begins_with_its_end() -> None:
    assert mates().give_up_at(oldest=97.0) == pytest.approx(104.0)


def test_those_who_need_longer_than_the_wait_may_last_are_not_worth_waiting_for() -> None:
    assert mates(back_after=0.2).are_worth_waiting_for(100.1, oldest=100.1, waiting=1, room=8)
    assert not mates(back_after=0.2, max_wait_s=0.05).are_worth_waiting_for(100.1, oldest=100.1, waiting=1, room=8)


@pytest.mark.parametrize(("back_after", "pays"), [(1.9, True), (2.1, False)])
def test_the_device_is_not_left_idle_for_more_than_half_of_what_that_should_save(back_after: float, pays: bool) -> None:
    rule = mates(back_after=back_after)
    assert rule.are_worth_waiting_for(100.0, oldest=100.0, waiting=1, room=8) is pays


def test_the_device_is_idle_only_since_somebody_waits() -> None:
    assert mates(back_after=2.1).are_worth_waiting_for(100.2, oldest=100.15, waiting=1, room=8)


@pytest.mark.parametrize(("fixed", "pays"), [(2.1, True), (1.9, False)])
def test_where_the_fixed_cost_is_less_than_a_fifth_of_the_batch_nobody_waits(fixed: float, pays: bool) -> None:
    assert mates(fixed=fixed).are_worth_waiting_for(100.1, oldest=100.1, waiting=1, room=8) is pays


@pytest.mark.parametrize(("waiting", "pays"), [(5, True), (6, True), (7, False)])
def test_many_do_not_wait_for_one_who_saves_less_than_they_lose(waiting: int, pays: bool) -> None:
    # 8 - waiting are missing for 1 s more: k · 1 s ≤ (8 - k) · b, with b = 3 s, holds up to k = 6
    rule = mates(fixed=3.0, back_after=1.1)
    assert rule.are_worth_waiting_for(100.1, oldest=100.1, waiting=waiting, room=8) is pays

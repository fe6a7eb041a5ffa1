import math

import pytest

from service.engine.recent_batches import TRAFFIC_S, RecentBatches


def test_the_callers_of_the_last_batch_are_expected_beside_those_it_left_waiting_for_a_while() -> None:
    recent = RecentBatches()
    assert recent.expected(0.0) == 0
    recent.record(ended=1.0, finished=5, waiting=0)
    recent.record(ended=2.0, finished=3, waiting=2)
    assert recent.expected(2.0) == 5
    assert recent.expected(2.0 + TRAFFIC_S) == 0


def test_callers_should_be_back_after_the_longest_of_the_times_that_the_last_ones_took() -> None:
    recent = RecentBatches()
    for ended, took in [(0.5, 0.4), (1.0, 0.09), (2.0, 0.02), (3.0, 0.01), (4.0, 0.01), (5.0, 0.01)]:
        recent.record(ended=ended, finished=2, waiting=0)
        recent.upload_came(ended + 0.001)
        recent.upload_came(ended + took)
        recent.upload_came(ended + 0.45)  # one more than were answered: a new caller
    recent.record(ended=6.0, finished=2, waiting=0)
    assert recent.back_at == pytest.approx(6.09)


def test_callers_who_were_not_all_back_before_the_next_batch_ended_took_at_least_so_long() -> None:
    recent = RecentBatches()
    recent.record(ended=1.0, finished=2, waiting=0)
    recent.upload_came(1.01)
    recent.record(ended=1.5, finished=1, waiting=0)
    assert recent.back_at == pytest.approx(2.0)


def test_those_whom_a_batch_left_waiting_have_not_gone_so_none_of_them_is_to_come_back() -> None:
    recent = RecentBatches()
    recent.record(ended=1.0, finished=1, waiting=3)
    recent.upload_came(1.25)
    recent.record(ended=2.0, finished=1, waiting=0)
    assert recent.back_at == pytest.approx(2.25)


def test_as_long_as_nothing_is_known_callers_may_be_back_at_once() -> None:
    recent = RecentBatches()
    assert recent.ended == -math.inf
    recent.record(ended=1.0, finished=2, waiting=0)
    assert recent.back_at == 1.0

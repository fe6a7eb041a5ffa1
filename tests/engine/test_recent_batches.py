import pytest

from service.engine.recent_batches import TRAFFIC_S, WINDOW, RecentBatches


def test_as_long_as_no_rate_is_known_the_advice_is_one_second() -> None:
    recent = RecentBatches()
    assert recent.retry_after_s(64) == 1.0


def test_a_part_of_a_large_upload_counts_as_that_part() -> None:
    recent = RecentBatches()
    for ended in (1.0, 2.0):
        recent.record(since=0.0, ended=ended, uploads=0.125, finished=0, waiting=1)
    assert recent.retry_after_s(2) == pytest.approx(16.0)


def test_the_advice_is_the_time_in_which_the_queue_will_be_through() -> None:
    recent = RecentBatches()
    for number in range(3):
        recent.record(since=0.0, ended=2.0 * (number + 1), uploads=4, finished=4, waiting=0)
    assert recent.retry_after_s(64) == pytest.approx(32.0)


def test_time_without_work_does_not_count() -> None:
    recent = RecentBatches()
    recent.record(since=0.0, ended=2.0, uploads=4, finished=4, waiting=0)
    recent.record(since=5000.0, ended=5002.0, uploads=4, finished=4, waiting=0)
    assert recent.retry_after_s(10) == pytest.approx(5.0)


def test_only_the_last_batches_count() -> None:
    recent = RecentBatches()
    for number in range(10):
        recent.record(since=0.0, ended=100.0 * number, uploads=1, finished=1, waiting=0)
    for number in range(WINDOW):
        recent.record(since=0.0, ended=901.0 + number, uploads=1, finished=1, waiting=0)
    assert recent.retry_after_s(10) == pytest.approx(10.0)


@pytest.mark.parametrize(("lasted", "advice"), [(0.001, 1.0), (1000.0, 60.0)])
def test_the_advice_is_between_one_second_and_a_minute(lasted: float, advice: float) -> None:
    recent = RecentBatches()
    recent.record(since=0.0, ended=lasted, uploads=1, finished=1, waiting=0)
    assert recent.retry_after_s(10) == advice


def test_the_callers_of_the_last_batch_are_expected_beside_those_it_left_waiting_for_a_while() -> None:
    recent = RecentBatches()
    assert recent.expected(0.0) == 0
    recent.record(since=0.0, ended=1.0, uploads=5, finished=5, waiting=0)
    recent.record(since=0.0, ended=2.0, uploads=3, finished=3, waiting=2)
    assert recent.expected(2.0) == 5
    assert recent.expected(2.0 + TRAFFIC_S) == 0


def test_callers_should_be_back_after_the_longest_of_the_times_that_the_last_ones_took() -> None:
    recent = RecentBatches()
    for ended, took in [(0.5, 0.4), (1.0, 0.01), (2.0, 0.02), (3.0, 0.09), (4.0, 0.01), (5.0, 0.01)]:
        recent.record(since=0.0, ended=ended, uploads=2, finished=2, waiting=0)
        recent.upload_came(ended + 0.001)
        recent.upload_came(ended + took)
        recent.upload_came(ended + 0.45)  # one more than were answered: a new caller
    recent.record(since=0.0, ended=6.0, uploads=2, finished=2, waiting=0)
    assert recent.back_at == pytest.approx(6.09)


def test_callers_who_were_not_all_back_before_the_next_batch_ended_took_at_least_so_long() -> None:
    recent = RecentBatches()
    recent.record(since=0.0, ended=1.0, uploads=2, finished=2, waiting=0)
    recent.upload_came(1.01)
    recent.record(since=1.01, ended=1.5, uploads=1, finished=1, waiting=0)
    assert recent.back_at == pytest.approx(2.0)


def test_as_long_as_nothing_is_known_callers_may_be_back_at_once() -> None:
    recent = RecentBatches()
    recent.record(since=0.0, ended=1.0, uploads=2, finished=2, waiting=0)
    assert recent.back_at == 1.0

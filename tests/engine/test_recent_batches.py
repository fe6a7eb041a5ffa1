import pytest

from service.engine.recent_batches import TRAFFIC_S, WINDOW, RecentBatches


def test_as_long_as_no_rate_is_known_the_advice_is_one_second() -> None:
    recent = RecentBatches()
    assert recent.retry_after_s(64) == 1.0
    recent.record(arrived=0.0, ended=9.0, callers=1, finished=0)  # a part of a large upload: still no rate
    assert recent.retry_after_s(64) == 1.0


def test_the_advice_is_the_time_in_which_the_queue_will_be_through() -> None:
    recent = RecentBatches()
    for number in range(3):
        recent.record(arrived=0.0, ended=2.0 * (number + 1), callers=4, finished=4)
    assert recent.retry_after_s(64) == pytest.approx(32.0)


def test_time_without_work_does_not_count() -> None:
    recent = RecentBatches()
    recent.record(arrived=0.0, ended=2.0, callers=4, finished=4)
    recent.record(arrived=5000.0, ended=5002.0, callers=4, finished=4)
    assert recent.retry_after_s(10) == pytest.approx(5.0)


def test_only_the_last_batches_count() -> None:
    recent = RecentBatches()
    for number in range(10):
        recent.record(arrived=0.0, ended=100.0 * number, callers=1, finished=1)
    for number in range(WINDOW):
        recent.record(arrived=0.0, ended=901.0 + number, callers=1, finished=1)
    assert recent.retry_after_s(10) == pytest.approx(10.0)


@pytest.mark.parametrize(("lasted", "advice"), [(0.001, 1.0), (1000.0, 60.0)])
def test_the_advice_is_between_one_second_and_a_minute(lasted: float, advice: float) -> None:
    recent = RecentBatches()
    recent.record(arrived=0.0, ended=lasted, callers=1, finished=1)
    assert recent.retry_after_s(10) == advice


def test_the_callers_of_the_last_batch_are_expected_back_for_a_while() -> None:
    recent = RecentBatches()
    assert recent.expected_back(0.0) == 0
    recent.record(arrived=0.0, ended=1.0, callers=5, finished=5)
    recent.record(arrived=0.0, ended=2.0, callers=3, finished=2)
    assert recent.expected_back(2.0) == 3
    assert recent.expected_back(2.0 + TRAFFIC_S) == 0

"""What follows from samples: windows, percentiles, steadiness, arrivals."""

from itertools import islice

import numpy as np
import pytest

from service.benchmark.samples import Sample, Span, is_steady, percentiles, poisson_arrivals, summarise


@pytest.mark.parametrize(
    ("rates", "steady"),
    [
        ([], False),
        ([10.0, 10.0], False),
        ([10.0, 10.5, 11.0], True),
        ([10.0, 10.5, 11.01], False),
        ([1.0, 50.0, 10.0, 10.9, 10.2], True),
        ([10.0, 10.0, 10.0, 20.0], False),
        ([10.0, 12.0, 10.0], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_three_windows_in_a_row_within_a_tenth_are_steady(rates: list[float], steady: bool) -> None:
    assert is_steady(rates) is steady


def test_percentiles_lie_between_their_neighbours() -> None:
    assert percentiles([float(value) for value in range(101)]) == (50.0, 95.0, 99.0)
    assert percentiles([2.0, 1.0]) == pytest.approx((1.5, 1.95, 1.99))
    assert percentiles([7.0]) == (7.0, 7.0, 7.0)
    assert percentiles([]) == (None, None, None)


def test_a_span_counts_what_was_over_within_it_and_times_what_was_due_within_it() -> None:
    samples = [
        Sample(0.5, 1.5, "answered", 100),  # due before: counted, not timed
        Sample(1.0, 1.2, "answered", 100),
        Sample(1.5, 2.9, "answered", 100),
        Sample(2.5, 9.5, "answered", 100),  # over after: timed, not counted
        Sample(1.1, 1.3, "refused", 7),
        Sample(1.4, 1.6, "failed", 0),
        Sample(0.1, 0.2, "failed", 0),
        Sample(2.0, 32.0, "failed", 0),  # waited for within it, and in vain
        Sample(0.2, 30.2, "failed", 0),
        Sample(3.0, 33.0, "failed", 0),
        Sample(3.0, 3.1, "refused", 7),  # the end is the next span's
    ]
    seen = summarise(samples, Span(1.0, 3.0))
    assert (seen.answered, seen.refused, seen.failed) == (3, 1, 3)
    assert seen.throughput == 1.5
    assert seen.received_bytes == 307
    assert seen.p50_ms == pytest.approx(1400)
    assert seen.p99_ms == pytest.approx(1400 + 0.98 * 5600)


def test_a_moment_between_two_windows_belongs_to_one_of_them() -> None:
    windows = [Span(0.0, 1.0), Span(1.0, 2.0)]
    assert [window.holds(1.0) for window in windows] == [False, True]
    late = [Sample(1.5, 2.0, "failed", 0)]
    assert summarise(late, Span(2.0, 3.0)).failed == 1


def test_a_span_without_answers_has_no_percentiles() -> None:
    seen = summarise([Sample(1.0, 1.1, "refused", 5)], Span(1.0, 2.0))
    assert (seen.throughput, seen.p50_ms, seen.p95_ms, seen.p99_ms) == (0.0, None, None, None)


def test_arrivals_are_a_poisson_process() -> None:
    times = np.array(list(islice(poisson_arrivals(20.0, seed=3), 20_000)))
    gaps = np.diff(times, prepend=0.0)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.03)
    counts = np.bincount(times.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


def test_a_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    first, again, other = (list(islice(poisson_arrivals(5.0, seed), 10)) for seed in (1, 1, 2))
    assert first == again != other

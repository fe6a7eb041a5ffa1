"""The cost of a batch, learnt from runs."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.engine.cost_curve import ENOUGH, KEPT, NOISE, SHELF_LIFE, CostCurve


def line(each: float, fixed: float, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> dict[int, float]:
    return {size: each * size + fixed for size in sizes}


def run(costs: CostCurve, seconds: dict[int, float], times: int = ENOUGH) -> None:
    for _ in range(times):
        for size, took in seconds.items():
            costs.record(size, took)


def test_nothing_is_known_at_first() -> None:
    costs = CostCurve()
    assert (costs.fixed_s, costs.seconds(8), costs.best_size(8), costs.most_within(0.05, 8)) == (0.0, 0.0, 8, 8)


def test_the_warm_up_gives_the_first_estimate() -> None:
    costs = CostCurve(line(0.01, 0.02))
    assert costs.fixed_s == pytest.approx(0.02)
    assert costs.seconds(5) == pytest.approx(0.07)


@given(each=st.floats(1e-4, 1.0), fixed=st.floats(0.0, 1.0), wrong=st.floats(0.01, 100.0))
def test_runs_put_a_wrong_first_estimate_right(each: float, fixed: float, wrong: float) -> None:
    costs = CostCurve(dict.fromkeys((1, 2, 4, 8), wrong))
    run(costs, line(each, fixed, (2, 5)))
    for size in range(1, 9):
        assert costs.seconds(size) == pytest.approx(each * size + fixed)


def test_a_hiccup_in_the_warm_up_is_not_believed_where_only_single_items_are_run() -> None:
    costs = CostCurve({1: 0.01, 2: 0.02, 8: 20.0})
    run(costs, {1: 0.01})
    assert costs.seconds(8) == pytest.approx(0.08)
    assert costs.seconds(2) == pytest.approx(0.02)


def test_runs_of_a_size_tell_more_than_its_warm_up_even_where_no_other_size_was_run() -> None:
    costs = CostCurve({1: 1.0, 8: 1.0})
    run(costs, {8: 0.5})
    assert costs.seconds(8) == 0.5


def test_no_batch_is_expected_to_cost_less_than_nothing() -> None:
    costs = CostCurve()
    run(costs, {4: 0.1, 8: 1.0})
    assert costs.seconds(1) == 0.0


def test_a_size_above_the_largest_is_not_chosen_however_cheap_it_was() -> None:
    """Since then the device may have run out of memory at that size."""
    costs = CostCurve()
    run(costs, {4: 0.4, 8: 0.1})
    assert costs.best_size(4) == 4


def test_one_hiccup_is_not_believed() -> None:
    costs = CostCurve()
    run(costs, line(0.01, 0.02))
    costs.record(1, 5.0)
    costs.record(8, 5.0)
    assert costs.fixed_s == pytest.approx(0.02)


def test_a_device_that_became_slower_is_noticed_within_the_runs_that_are_kept() -> None:
    costs = CostCurve()
    run(costs, line(0.01, 0.02), KEPT)
    run(costs, line(0.03, 0.06), KEPT // 2 + 1)
    assert costs.fixed_s == pytest.approx(0.06)


def test_large_batches_alone_tell_a_fixed_part_that_is_more_than_noise() -> None:
    costs = CostCurve()
    run(costs, line(0.01, 0.02, (4, 8)))
    assert costs.fixed_s == pytest.approx(0.02)


def test_sizes_too_much_alike_tell_no_fixed_part() -> None:
    costs = CostCurve()
    run(costs, {7: 0.080, 8: 0.081})
    assert costs.fixed_s == 0.0
    assert costs.seconds(1) == pytest.approx(0.081 / 8, rel=0.2)


@given(
    each=st.floats(1e-4, 1.0),
    sizes=st.sets(st.sampled_from([1, 2, 4, 8]), min_size=2),
    noise=st.lists(st.floats(-0.02, 0.02), min_size=4, max_size=4),
)
@example(each=1.0, sizes={4, 8}, noise=[0.02, -0.02, 0.0, 0.0])
def test_noise_is_not_taken_for_a_fixed_part(each: float, sizes: set[int], noise: list[float]) -> None:
    costs = CostCurve()
    run(costs, {size: each * size * (1 + off) for size, off in zip(sorted(sizes), noise, strict=False)})
    assert costs.fixed_s <= 2 * NOISE * each


def test_a_cost_that_grows_faster_than_the_size_has_no_fixed_part() -> None:
    costs = CostCurve({1: 0.01, 2: 0.022, 4: 0.05, 8: 0.12})
    assert costs.fixed_s == 0.0
    assert costs.seconds(3) >= 0.0


# --- sizes of batches -----------------------------------------------------------------------------------------------


def test_the_largest_batch_that_runs_in_a_given_time_holds_at_least_one_item() -> None:
    costs = CostCurve(line(0.010, 0.005))
    assert [costs.most_within(seconds, 8) for seconds in (0.001, 0.030, 0.045, 9.0)] == [1, 2, 4, 8]


def test_where_a_batch_costs_no_more_than_one_item_it_is_not_cut() -> None:
    assert CostCurve(line(0.0, 1.0)).most_within(0.05, 8) == 8


def test_as_long_as_only_one_size_was_run_the_cost_is_taken_to_be_proportional() -> None:
    costs = CostCurve()
    run(costs, {8: 0.4})
    assert (costs.most_within(0.05, 8), costs.most_within(0.21, 8)) == (1, 4)


def test_a_size_that_costs_less_an_item_than_the_largest_is_the_best() -> None:
    costs = CostCurve()
    run(costs, {1: 0.011, 2: 0.020, 4: 0.039, 8: 0.095})
    assert [costs.best_size(largest) for largest in (8, 4, 2)] == [4, 4, 2]


def test_a_difference_no_greater_than_noise_makes_no_size_the_best() -> None:
    costs = CostCurve()
    run(costs, {4: 0.040, 8: 0.085})
    assert costs.best_size(8) == 8


def test_the_warm_up_alone_does_not_make_batches_smaller() -> None:
    assert CostCurve({1: 0.01, 8: 0.8}).best_size(8) == 8


def test_the_largest_size_gets_another_chance_after_a_while() -> None:
    costs = CostCurve()
    run(costs, {4: 0.04, 8: 0.8})
    assert costs.best_size(8) == 4
    run(costs, {4: 0.04}, SHELF_LIFE)
    assert costs.best_size(8) == 8
    run(costs, {8: 0.08})
    assert costs.best_size(8) == 8


def test_a_long_time_of_lone_uploads_does_not_let_the_warm_up_be_forgotten() -> None:
    costs = CostCurve(line(0.001, 0.02))
    run(costs, {1: 0.021}, 2 * SHELF_LIFE)
    assert costs.seconds(8) == pytest.approx(0.028)

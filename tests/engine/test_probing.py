"""Two answers to one probe, compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.probing import TOLERANCE, mean_difference, raster


def test_a_raster_holds_the_mean_of_each_cell_row_by_row() -> None:
    probability = np.array([[0.0, 0.2, 0.4, 0.6], [0.2, 0.4, 0.6, 0.8]])
    assert raster(probability, 1, 2) == pytest.approx((0.2, 0.6))
    assert raster(probability, 2, 2) == pytest.approx((0.1, 0.5, 0.3, 0.7))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(9, 40), st.integers(9, 40))
def test_a_raster_covers_grids_that_do_not_divide_evenly(rows: int, columns: int, height: int, width: int) -> None:
    answer = raster(np.full((height, width), 0.3), rows, columns)
    assert answer == pytest.approx((0.3,) * (rows * columns))


def test_a_raster_of_every_pixel_is_the_map_itself() -> None:
    probability = np.random.default_rng(0).random((3, 5))
    assert raster(probability, 3, 5) == tuple(probability.ravel().tolist())


def test_the_difference_is_the_mean_of_absolute_differences() -> None:
    assert mean_difference((0.1, 0.9, 0.5), (0.4, 0.3, 0.5)) == pytest.approx(0.3)


def test_equal_answers_do_not_differ() -> None:
    assert mean_difference((0.1, 0.9), (0.1, 0.9)) == 0.0


def test_differences_of_opposite_sign_do_not_cancel() -> None:
    assert mean_difference((0.0, 1.0), (1.0, 0.0)) == 1.0


def test_the_rounding_of_half_precision_is_forgiven_and_a_mirrored_answer_is_not() -> None:
    generator = np.random.default_rng(1)
    probability = generator.random((64, 64)) * np.linspace(0.2, 1.0, 64)
    recorded = raster(probability, 8, 8)
    rounded = raster(probability + generator.normal(0, 0.004, probability.shape), 8, 8)
    assert (
        mean_difference(rounded, recorded) < TOLERANCE < mean_difference(raster(probability[:, ::-1], 8, 8), recorded)
    )

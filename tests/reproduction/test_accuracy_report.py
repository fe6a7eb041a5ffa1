import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.reproduction.accuracy_report import pooled
from service.reproduction.paper import Spread
from tests.reproduction.experiments import make_run, make_score

fractions = st.floats(0, 1, allow_nan=False)


@given(parts=st.lists(st.lists(fractions, min_size=1, max_size=6), min_size=1, max_size=6))
def test_folds_pooled_are_as_all_their_images_at_once(parts: list[list[float]]) -> None:
    together = pooled((len(part), Spread(float(np.mean(part)), float(np.std(part)))) for part in parts)
    everything = np.concatenate(parts)
    assert together.mean == pytest.approx(float(everything.mean()), abs=1e-9)
    assert together.std == pytest.approx(float(everything.std()), abs=1e-6)


def test_the_time_of_all_folds_counts() -> None:
    score = make_score("al-net", make_run(seconds=90.0), make_run(seconds=30.0))
    assert score.minutes == 2

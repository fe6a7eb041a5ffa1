"""A network that is hardly better than one which marks nothing is known by its mean IoU."""

import pytest

from service.training.dataset import Dataset
from service.training.nothing_found import caution_of_nothing

SHARES = {"healthy": 0.0, "also healthy": 0.0, "one": 0.3, "other": 0.01}
DATASET = Dataset(name="data", pairs=(), is_series=False, digest="", foreground=SHARES)


@pytest.mark.parametrize(
    ("names", "iou"),
    [(("one", "other"), 0.0), (("one", "other"), 0.009), (("healthy", "one"), 0.5), (("healthy", "one"), 0.504)],
)
def test_a_mean_iou_that_empty_masks_would_nearly_have_is_cautioned_of(names: tuple[str, ...], iou: float) -> None:
    said = caution_of_nothing(DATASET, names, iou, "test")
    assert said is not None
    assert f"on the 2 test images is {iou:.4f}, where empty masks would have {0.5 * ('healthy' in names):.4f}" in said


@pytest.mark.parametrize(
    ("names", "iou"),
    [
        (("one", "other"), 0.02),
        (("healthy", "one"), 0.51),
        (("healthy", "also healthy"), 1.0),
        (("healthy", "also healthy"), 0.5),
    ],
)
def test_of_a_network_that_finds_something_or_where_there_is_nothing_it_is_not(
    names: tuple[str, ...], iou: float
) -> None:
    assert caution_of_nothing(DATASET, names, iou, "test") is None

"""Which item is seen when."""

from collections import Counter
from itertools import chain

from service.training.order import EpochOrder, Key


def _epochs(count: int, order: EpochOrder) -> list[list[Key]]:
    keys = []
    for epoch in range(count):
        order.start(epoch)
        keys.append(list(order))
    return keys


def test_every_view_is_seen_once_a_pass_across_epochs_of_another_length() -> None:
    epochs = _epochs(6, EpochOrder(24, length=20, seed=3))
    items = [item for _, _, item in chain.from_iterable(epochs)]
    for start in range(0, 120, 24):
        assert sorted(items[start : start + 24]) == list(range(24))


def test_an_epoch_longer_than_a_pass_goes_on_with_the_next() -> None:
    (epoch,) = _epochs(1, EpochOrder(8, length=20, seed=0))
    assert Counter(item for _, _, item in epoch[:16]) == dict.fromkeys(range(8), 2)
    assert [position for _, position, _ in epoch] == list(range(20))


def test_passes_and_seeds_are_shuffled_differently() -> None:
    first, second = _epochs(2, EpochOrder(50, length=50, seed=0))
    (other,) = _epochs(1, EpochOrder(50, length=50, seed=1))
    orders = [[item for _, _, item in epoch] for epoch in (first, second, other)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_later_epoch_does_not_depend_on_those_before() -> None:
    whole = _epochs(5, EpochOrder(16, length=6, seed=7))
    resumed = EpochOrder(16, length=6, seed=7)
    resumed.start(3)
    assert list(resumed) == whole[3]


def test_an_epoch_of_its_own_pass_shows_no_item_twice_though_some_are_left_out() -> None:
    """With 24 items in batches of 2 × 5 two steps are taken; what was left out comes in other epochs."""
    order = EpochOrder(24, length=20, seed=0, anew=True)
    epochs = [[item for _, _, item in epoch] for epoch in _epochs(8, order)]
    assert [len(set(epoch)) for epoch in epochs] == [20] * 8
    assert set(chain.from_iterable(epochs)) == set(range(24))
    assert epochs[0] != epochs[1]


def test_more_to_see_in_an_epoch_than_there_is_begins_another_pass() -> None:
    first, second = _epochs(2, EpochOrder(8, length=10, seed=0, anew=True))
    assert sorted(item for _, _, item in first[:8]) == list(range(8))
    assert sorted(item for _, _, item in second[:8]) == list(range(8))


def test_two_ranks_share_an_epoch_without_overlap_or_gap() -> None:
    whole = _epochs(3, EpochOrder(16, length=12, seed=5))
    ranks = [EpochOrder(16, length=12, seed=5, rank=rank, world=2) for rank in (0, 1)]
    for epoch, (one, other) in enumerate(zip(*(_epochs(3, order) for order in ranks), strict=True)):
        assert not set(one) & set(other)
        assert sorted(one + other) == sorted(whole[epoch])
        assert [len(order) for order in ranks] == [len(one), len(other)] == [6, 6]

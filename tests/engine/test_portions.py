"""How a batch is cut for the two lanes of a GPU: nothing is lost or computed in vain, and few graphs do for all."""

import numpy as np
import pytest

from service.engine.cuda_graphs import portions

TILES = [np.full((1, 1, 3), number, np.uint8) for number in range(70)]


def sizes(count: int) -> list[int]:
    return [len(portion) for portion in portions(TILES[:count])]


@pytest.mark.parametrize("count", range(len(TILES)))
def test_all_tiles_come_once_and_in_order(count: int) -> None:
    cut = [int(tile[0, 0, 0]) for portion in portions(TILES[:count]) for tile in portion]
    assert cut == list(range(count))


@pytest.mark.parametrize("count", range(len(TILES)))
def test_portions_are_powers_of_two_and_the_largest_come_first(count: int) -> None:
    cut = sizes(count)
    assert set(cut) <= {1, 2, 4, 8}
    assert cut == sorted(cut, reverse=True)


def test_a_batch_is_cut_into_as_few_as_there_can_be() -> None:
    assert [sizes(count) for count in (0, 1, 7, 8, 13, 32)] == [[], [1], [4, 2, 1], [8], [8, 4, 1], [8, 8, 8, 8]]

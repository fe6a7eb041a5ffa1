"""Which grids there may be."""

import pytest

from service.errors import BadConfig
from service.imaging.policy import InputPolicy


@pytest.mark.parametrize(("height", "width"), [(2048, 2048), (1024, 4096), (4096, 1024)])
def test_a_grid_may_be_as_large_as_memory_holds(height: int, width: int) -> None:
    assert InputPolicy(kind="stretch", height=height, width=width).grid == (height, width)


@pytest.mark.parametrize(("height", "width"), [(2048, 2080), (32, 4128), (4128, 32), (2041, 2049), (10**30, 10**30)])
def test_a_larger_one_is_refused_as_its_network_sees_it(height: int, width: int) -> None:
    with pytest.raises(BadConfig, match=r"a grid of .* is too large; there may be 4194304 pixels, and 4096 a side"):
        InputPolicy(kind="fit", height=height, width=width)

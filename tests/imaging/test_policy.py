"""Which grids there may be."""

from typing import Literal

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


@pytest.mark.parametrize("overlap", [-1, 32, 40])
def test_tiles_overlap_by_less_than_half(overlap: int) -> None:
    assert InputPolicy(kind="tile", height=64, width=96, overlap=31).overlap == 31
    with pytest.raises(BadConfig):
        InputPolicy(kind="tile", height=64, width=96, overlap=overlap)


@pytest.mark.parametrize("kind", ["tile", "stretch"])
def test_what_has_no_margin_to_be_filled_up_is_a_multiple_of_32(kind: Literal["tile", "stretch"]) -> None:
    with pytest.raises(BadConfig, match=f"a {kind} grid must be a multiple of 32: 64 × 100"):
        InputPolicy(kind=kind, height=64, width=100)

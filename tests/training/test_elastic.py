"""Elastic deformation: how far points move, that nothing else does, and that a seed gives one and the same."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.training.elastic import elastic


def _moved(largest_px: float, seed: int, *, canvas: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return by how many pixels (down, right) each point of the middle of a canvas is moved, float32 (2, *size)."""
    here = torch.from_numpy(np.indices(canvas).astype(np.float32))
    change = elastic(
        largest_px, keys=("image",), prob=1.0, spatial_size=size, mode="bilinear", padding_mode="reflection"
    )
    change.set_random_state(seed)
    corner = np.array([(whole - part) / 2 for whole, part in zip(canvas, size, strict=True)], np.float32)
    there = np.asarray(change({"image": here})["image"], np.float32)
    return there - np.indices(size).astype(np.float32) - corner[:, None, None]


@pytest.mark.parametrize("size", [(256, 256), (255, 129), (33, 256), (1, 1)])
def test_without_offsets_nothing_moves(size: tuple[int, int]) -> None:
    """MONAI's own grid, enlarged as a whole, moves pixels by up to 1.5 px."""
    canvas = (301, 301) if size[0] % 2 else (300, 300)
    canvas = canvas[0], canvas[0] + (size[0] - size[1]) % 2
    assert np.abs(_moved(0, 1, canvas=canvas, size=size)).max() < 1e-3


def test_offsets_are_as_large_as_is_told_and_smooth() -> None:
    moved = np.stack([_moved(6, seed, canvas=(512, 512), size=(256, 256)) for seed in range(40)])
    of_each = moved.std(axis=(1, 2, 3))
    assert 1.5 < of_each.mean() < 4  # σ of the points is 0 to 6, between them it is less
    assert of_each.max() < 6
    assert np.abs(moved.mean(axis=(0, 2, 3))).max() < 0.5
    assert np.abs(np.diff(moved, axis=-1)).max() < 2  # px from one pixel to the next: 6 px in steps of 32 px


def test_rows_and_columns_move_on_their_own() -> None:
    down, right = _moved(6, 3, canvas=(512, 512), size=(256, 256))
    assert abs(np.corrcoef(down.ravel(), right.ravel())[0, 1]) < 0.5


def test_a_seed_gives_one_deformation() -> None:
    first, again, other = (_moved(6, seed, canvas=(300, 300), size=(128, 128)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.5

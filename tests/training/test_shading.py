"""Random shading: smooth, as strong across as down, the same in all channels, and as strong as is told."""

import numpy as np
import torch
from numpy.typing import NDArray

from service.training.shading import random_shading

LIGHT = 100.0
SIZE = (33, 49)


def _exponents(largest: float, seeds: int = 400) -> NDArray[np.float64]:
    """Return the logarithm of what an even image is multiplied by, (shaded views, 3, *SIZE)."""
    change, found = random_shading(largest), []
    for seed in range(seeds):
        change.set_random_state(seed)
        image = np.asarray(change({"image": torch.full((3, *SIZE), LIGHT)})["image"], np.float64)
        found.append(np.log(image / LIGHT))
    is_shaded = [np.abs(exponent).max() > 1e-6 for exponent in found]
    return np.stack(found)[is_shaded]


def test_views_are_shaded_across_as_much_as_down() -> None:
    """MONAI's own field has no term of columns alone: from side to side its mean light hardly changes."""
    exponents = _exponents(0.2)[:, 0]
    down, across = exponents.mean(axis=2), exponents.mean(axis=1)
    for ends in (down[:, -1] - down[:, 0], across[:, -1] - across[:, 0]):
        assert 0.2 < ends.std() < 0.26  # 2 c, where c is even from -0.2 to 0.2
    assert 0.8 < np.ptp(across, axis=1).mean() / np.ptp(down, axis=1).mean() < 1.25


def test_a_shading_is_a_polynomial_of_degree_2_in_all_channels() -> None:
    exponents = _exponents(0.2, seeds=60)
    assert (exponents == exponents[:, :1]).all()
    down, across = np.meshgrid(*(np.linspace(-1, 1, side) for side in SIZE), indexing="ij")
    terms = np.stack([down**i * across**j for i in range(3) for j in range(3 - i)], axis=-1).reshape(-1, 6)
    views = exponents[:, 0].reshape(len(exponents), -1).T
    found, *_ = np.linalg.lstsq(terms, views, rcond=None)
    assert np.abs(terms @ found - views).max() < 1e-5


def test_a_shading_is_no_stronger_than_its_coefficients() -> None:
    strongest = np.abs(_exponents(0.2)).max()
    assert 0.6 < strongest <= 1.2

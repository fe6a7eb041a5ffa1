"""Random blur: inside as MONAI's, and no rim along the edges, where that of MONAI fades to black."""

import numpy as np
import pytest
import torch
from monai.transforms.intensity.dictionary import RandGaussianSmoothd
from numpy.typing import NDArray

from service.training.blur import random_blur

VIEWS = 60


def _blurred(change: RandGaussianSmoothd, image: torch.Tensor) -> NDArray[np.float32]:
    """Return views of an image, float32 (VIEWS, 3, h, w)."""
    views = []
    for seed in range(VIEWS):
        change.set_random_state(seed)
        views.append(np.asarray(change({"image": image})["image"], np.float32))
    return np.stack(views)


@pytest.mark.parametrize("size", [(40, 56), (1, 1), (3, 90)])
def test_an_even_image_stays_even(size: tuple[int, int]) -> None:
    assert _blurred(random_blur(6), torch.full((3, *size), 128.0)) == pytest.approx(128, abs=0.1)


def test_away_from_the_edges_it_is_monais_with_the_same_draws() -> None:
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, 40, 56)).astype(np.float32))
    own = _blurred(random_blur(2), image)
    monais = _blurred(RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.1, 2), sigma_y=(0.1, 2)), image)
    changed = np.abs(own - image.numpy()).max(axis=(1, 2, 3)) > 1
    assert 4 < changed.sum() < 24
    assert own[..., 9:-9, 9:-9] == pytest.approx(monais[..., 9:-9, 9:-9], abs=1e-2)

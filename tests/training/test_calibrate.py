"""Temperature scaling finds the temperature that the logits were made with."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.engine.torch_engine import Predictor
from service.imaging.policy import InputPolicy
from service.store.card import Normalisation
from service.training.calibrate import HIGHEST, LOWEST, PIXELS_AN_IMAGE, fit_temperature, sample_logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.7])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, 200_000)
    masks = random.random(200_000) < 1 / (1 + np.exp(-true))
    assert fit_temperature(true * temperature, masks) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_stays_within_its_bounds() -> None:
    logits = np.linspace(-3, 3, 100)
    assert fit_temperature(logits, logits > 0) == pytest.approx(LOWEST, abs=1e-3)
    assert fit_temperature(logits, logits < 0) == pytest.approx(HIGHEST, abs=1e-3)


def test_images_without_foreground_have_a_temperature() -> None:
    temperature = fit_temperature(np.linspace(-6, -2, 100), np.zeros(100, bool))
    assert temperature == pytest.approx(LOWEST, abs=1e-3)


class _Red(nn.Module):
    """Gives the first channel as logits, so that logits and pixels can be compared."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1]


def _predictor() -> Predictor:
    plain = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Predictor(_Red(), plain, temperature=1.0, device=torch.device("cpu"), dtype=torch.float32)


def _pair(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, (image[..., 0] > 127).astype(np.uint8)


def test_sampled_logits_and_masks_are_of_the_same_pixels() -> None:
    policy = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    logits, masks = sample_logits([_pair(100, 150), _pair(20, 20)], _predictor(), policy, seed=0)
    assert logits.shape == masks.shape
    assert np.array_equal(logits > 0, masks)


def test_a_large_image_gives_no_more_pixels_than_it_should() -> None:
    policy = InputPolicy(kind="stretch", height=320, width=320)
    logits, _ = sample_logits([_pair(320, 320)] * 2, _predictor(), policy, seed=0)
    assert PIXELS_AN_IMAGE <= len(logits) / 2 <= PIXELS_AN_IMAGE + 1

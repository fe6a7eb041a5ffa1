"""Calibration finds the temperature that the logits were made with, and what follows from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.engine.predictor import Predictor
from service.engine.quality import MaskRule
from service.imaging.policy import InputPolicy
from service.store.card import Normalisation
from service.training.cache import PairCache
from service.training.calibrate import PIXELS_AN_IMAGE, calibrate, fit_temperature, sample_logits
from service.training.dataset import open_dataset
from service.training.iou_estimate import fit_estimate
from service.training.main_components import LEAST_COMPONENT
from service.training.scores import count_levels
from service.training.threshold import choose_threshold
from tests.training.folders import write


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.7])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, 200_000)
    masks = random.random(200_000) < 1 / (1 + np.exp(-true))
    assert fit_temperature(true * temperature, masks) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_stays_within_its_bounds() -> None:
    logits = np.linspace(-3, 3, 100)
    assert fit_temperature(logits, logits > 0) == pytest.approx(0.25, abs=1e-3)
    assert fit_temperature(logits, logits < 0) == pytest.approx(4, abs=1e-3)


def test_images_without_foreground_have_a_temperature() -> None:
    temperature = fit_temperature(np.linspace(-6, -2, 100), np.zeros(100, bool))
    assert temperature == pytest.approx(0.25, abs=1e-3)


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


def test_of_a_small_image_each_pixel_is_taken_once() -> None:
    image, mask = _pair(64, 64)
    policy = InputPolicy(kind="stretch", height=64, width=64)
    logits, _ = sample_logits([(image, mask)], _predictor(), policy, seed=0)
    assert np.sort(logits) == pytest.approx(np.sort((image[..., 0] / 255 - 0.5) / 0.5, axis=None), abs=1e-6)


@pytest.mark.parametrize(("kind", "side", "tiles"), [("stretch", 320, 1), ("tile", 160, 4)])
def test_a_large_image_gives_no_more_pixels_than_it_should(kind: str, side: int, tiles: int) -> None:
    policy = InputPolicy(kind=kind, height=side, width=side)  # type: ignore[arg-type]
    logits, _ = sample_logits([_pair(320, 320)] * 2, _predictor(), policy, seed=0)
    assert PIXELS_AN_IMAGE <= len(logits) / 2 <= PIXELS_AN_IMAGE + tiles


@pytest.mark.parametrize(("side", "seed", "bias"), [(32, 0, 0.0), (160, 0, 0.0), (160, 3, 0.0), (32, 0, -0.2)])
def test_threshold_and_estimate_are_learnt_at_the_temperature_that_was_fitted(
    side: int, seed: int, bias: float
) -> None:
    policy = InputPolicy(kind="stretch", height=side, width=side)
    images = PairCache(open_dataset("drawn:skin:3").pairs, 1e9)

    def predictor_at(temperature: float) -> Predictor:
        plain = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        return Predictor(_Dark(bias), plain, temperature=temperature, device=torch.device("cpu"), dtype=torch.float32)

    found = calibrate(images, predictor_at, policy, seed)
    pairs = (pair for _, pair in images.named())
    assert found.temperature == fit_temperature(*sample_logits(pairs, predictor_at(1.0), policy, seed)) != 1.0
    counted = count_levels(images.named(), predictor_at(found.temperature).predict, policy)
    assert found.threshold == choose_threshold(counted)
    assert (found.threshold != 0.5) == bool(bias)
    assert found.expected_iou == fit_estimate(counted, found.threshold)


@pytest.mark.parametrize(("images", "is_left_out"), [(30, True), (19, False)])
def test_stains_beside_the_lesions_are_left_out_where_enough_images_say_so(
    images: int, is_left_out: bool, tmp_path: Path
) -> None:
    for number in range(images):
        pixels = np.full((64, 64, 3), 250, np.uint8)
        pixels[10 : 30 + number % 7, 10:40] = 5 + number
        reference = (pixels[..., 0] < 100) * np.uint8(255)
        pixels[50 : 52 + number % 5, 50 : 53 + number % 4] = 30
        write(tmp_path / "images" / f"{number:02}.png", pixels)
        write(tmp_path / "masks" / f"{number:02}.png", reference)

    def predictor_at(temperature: float) -> Predictor:
        plain = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        return Predictor(_Dark(), plain, temperature=temperature, device=torch.device("cpu"), dtype=torch.float32)

    policy = InputPolicy(kind="stretch", height=64, width=64)
    cache = PairCache(open_dataset(str(tmp_path)).pairs, 1e9)
    found = calibrate(cache, predictor_at, policy, seed=0)
    assert found.least_component == (LEAST_COMPONENT if is_left_out else 0.0)
    assert found.rule == MaskRule(found.threshold, found.least_component)
    counted = count_levels(cache.named(), predictor_at(found.temperature).predict, policy, found.rule)
    assert found.expected_iou == fit_estimate(counted, found.threshold)


class _Dark(nn.Module):
    """Gives logits that are the larger the darker a pixel is: what is known of a lesion without training."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, image: Tensor) -> Tensor:
        return 4 * (self.bias - image.mean(dim=1, keepdim=True))

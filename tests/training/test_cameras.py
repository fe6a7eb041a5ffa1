"""What other cameras do to an image: within its bounds, to the image alone, and drawn anew each time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.training.cameras import LUMA, RandJpegd, RandSaturationd, jpeg, random_cameras
from tests.doubles import draw


def _image() -> Tensor:
    return torch.from_numpy(draw(height=48, width=64)).permute(2, 0, 1).float()


def _changed(change: Callable[..., Any], image: Tensor, seed: int = 0) -> Tensor:
    change.set_random_state(seed)  # type: ignore[attr-defined]
    changed: Tensor = change({"image": image.clone(), "mask": image[:1]})["image"]
    return changed


def test_without_saturation_an_image_is_grey_and_as_light_as_before() -> None:
    image = _image()
    grey = _changed(RandSaturationd(prob=1, factors=(0, 0)), image)
    assert torch.allclose(grey, grey[:1].expand(3, -1, -1))
    assert torch.allclose(grey[0], torch.tensordot(torch.tensor(LUMA), image, dims=1), atol=1e-3)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_saturation_scales_the_distance_from_grey(factor: float) -> None:
    image = _image()
    grey = torch.tensordot(torch.tensor(LUMA), image, dims=1)
    changed = _changed(RandSaturationd(prob=1, factors=(factor, factor)), image)
    assert torch.allclose(changed - grey, factor * (image - grey), atol=1e-3)


def test_jpeg_loses_more_at_lower_quality_and_keeps_the_size() -> None:
    pixels = draw(height=48, width=64)
    lost = [np.abs(jpeg(pixels, quality).astype(float) - pixels).mean() for quality in (20, 60, 95)]
    assert lost[0] > lost[1] > lost[2] > 0


@pytest.mark.parametrize(("strength", "worst", "not_better"), [(0.1, 92, 94), (1, 20, 30)])
def test_a_stronger_camera_compresses_more(strength: float, worst: int, not_better: int) -> None:
    *_, compress = random_cameras(strength)
    image = _image()
    lost = max((_changed(compress, image, seed) - image).abs().mean().item() for seed in range(60))
    pixels = draw(height=48, width=64)
    most, less = (np.abs(jpeg(pixels, quality).astype(float) - pixels).mean() for quality in (worst, not_better))
    assert less - 1e-3 <= lost <= most + 1e-3


@pytest.mark.parametrize(("strength", "least", "most"), [(0.2, 0.8, 1.1), (1, 0, 1.5)])
def test_a_stronger_camera_takes_more_colour_away_than_it_adds(strength: float, least: float, most: float) -> None:
    saturate = random_cameras(strength)[1]
    red = torch.tensor([200.0, 100.0, 100.0])[:, None, None].expand(3, 4, 4)
    found = [
        ((changed[0] - changed[1]).mean() / 100).item() for changed in (_changed(saturate, red, s) for s in range(80))
    ]
    assert least - 1e-4 <= min(found) < least + 0.1 * strength
    assert most - 0.1 * strength < max(found) <= most + 1e-4


def test_what_jpeg_cannot_hold_is_cut_off_and_not_wrapped_around() -> None:
    bright = torch.full((3, 16, 16), 300.0)
    assert _changed(RandJpegd(prob=1, quality=(95, 95)), bright).min() >= 250


@pytest.mark.parametrize("change", [RandSaturationd(prob=0, factors=(0, 0)), RandJpegd(prob=0, quality=(5, 5))])
def test_what_never_happens_leaves_the_image_alone(change: Callable[..., Any]) -> None:
    assert torch.equal(_changed(change, _image()), _image())


def test_each_draw_is_another_and_the_same_seed_the_same() -> None:
    change = RandSaturationd(prob=1, factors=(0, 1))
    assert torch.equal(_changed(change, _image(), 1), _changed(change, _image(), 1))
    assert not torch.equal(_changed(change, _image(), 1), _changed(change, _image(), 2))


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_stronger_the_more_changes(strength: float) -> None:
    def distance(at: float) -> float:
        total = 0.0
        for seed in range(30):
            image = _image()
            for change in random_cameras(at):
                image = _changed(change, image, seed).as_subclass(Tensor)
            total += float((image - _image()).abs().mean())
        return total

    assert distance(strength) > distance(strength / 2) > 0

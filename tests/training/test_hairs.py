"""Hairs over a picture: some of it is hidden, never all, and what is marked stays marked."""

import numpy as np
import torch
from torch import Tensor

from service.training.hairs import RandHairsd, hairs

SEEDS = range(40)

SKIN = torch.tensor([210.0, 160.0, 130.0])[:, None, None]


def _haired(seed: int, prob: float = 1, size: tuple[int, int] = (48, 64)) -> tuple[Tensor, Tensor]:
    """Return plain skin under hairs, and its mask: the left half."""
    mask = torch.zeros(1, *size)
    mask[:, :, : size[1] // 2] = 1
    change = RandHairsd(prob)
    change.set_random_state(seed)
    item = change({"image": SKIN.expand(3, *size).clone(), "mask": mask})
    return item["image"], item["mask"]


def _hidden(image: Tensor) -> float:
    """Return the share of the pixels that differ from the skin."""
    return float(((image - SKIN).abs() > 2).any(dim=0).float().mean())


def test_without_hairs_nothing_changes() -> None:
    for seed in SEEDS:
        assert _hidden(_haired(seed, prob=0)[0]) == 0


def test_hairs_are_drawn_as_often_as_asked() -> None:
    haired = sum(_hidden(_haired(seed, prob=0.5)[0]) > 0 for seed in range(200))
    assert 70 < haired < 130


def test_a_mask_stays_as_it_was_and_so_do_size_kind_and_range() -> None:
    for seed in SEEDS:
        image, mask = _haired(seed)
        assert (image.shape, image.dtype, type(image)) == ((3, 48, 64), torch.float32, Tensor)
        assert 0 <= image.min() <= image.max() <= 255
        assert torch.equal(mask[:, :, :32], torch.ones(1, 48, 32))
        assert not mask[:, :, 32:].any()


def test_some_pictures_have_a_hair_or_two_and_some_are_overgrown_but_skin_is_seen_in_all() -> None:
    shares = [_hidden(_haired(seed, size=(128, 128))[0]) for seed in range(100)]
    assert min(shares) < 0.02
    assert 0.3 < max(shares) < 0.8


def test_hairs_are_dark_or_fair() -> None:
    shifts = [float(_haired(seed)[0].mean() - SKIN.mean()) for seed in range(100)]
    assert min(shifts) < -20
    assert max(shifts) > 0


def test_hairs_reach_every_part_of_a_picture_that_is_not_square() -> None:
    hidden = sum(((_haired(seed, size=(40, 120))[0] - SKIN).abs() > 2).any(dim=0).float() for seed in range(300))
    assert isinstance(hidden, Tensor)
    assert bool((hidden > 0).all())


def test_the_same_seed_draws_the_same_hairs() -> None:
    one, same, other = (hairs(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)

"""Hairs over a picture: some of it is hidden, never all, and what is marked stays marked."""

import numpy as np
import torch
from torch import Tensor

from service.training.drawing.brush import Plane
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


def test_one_picture_in_five_has_fair_hairs_and_dark_ones_are_black_to_brown() -> None:
    shifts, tints = [], []
    for seed in range(200):
        image = _haired(seed)[0]
        hair = image.flatten(1)[:, (image - SKIN).abs().sum(dim=0).argmax()]
        shifts.append(float(hair[1] - SKIN[1]))
        tints.append(float(hair[0] - hair[2]))
    assert 0.1 < np.mean(np.array(shifts) > 0) < 0.3
    assert 10 < max(tints) < 100


def test_few_hairs_are_as_likely_as_many() -> None:
    shares = [_hidden(_haired(seed, size=(128, 128))[0]) for seed in range(100)]
    assert 0.4 < np.mean(np.array(shares) < 0.1) < 0.75


def _coherence(plane: Plane) -> float:
    """Return how much all edges go one way: 1, all do, to 0."""
    down, across = np.gradient(plane)
    axis = np.hypot((across**2 - down**2).sum(), 2 * (across * down).sum())
    return float(axis / (across**2 + down**2).sum())


def test_hairs_go_roughly_one_way_in_most_pictures() -> None:
    found = [_coherence(hairs(np.random.default_rng(seed), 128, 30)) for seed in range(30)]
    assert np.median(found) > 0.3
    assert min(found) < 0.3


def test_some_hairs_are_bent() -> None:
    aside = []
    for seed in range(60):
        places = np.argwhere(hairs(np.random.default_rng(seed), 128, 1) > 0.1) / 128
        if len(places) > 50:  # else it lies outside, but for its end
            aside.append(np.sqrt(np.linalg.eigvalsh(np.cov(places.T))[0]))
    assert min(aside) < 0.01
    assert max(aside) > 0.03


def test_hairs_reach_every_part_of_a_picture_that_is_not_square() -> None:
    hidden = sum(((_haired(seed, size=(40, 120))[0] - SKIN).abs() > 2).any(dim=0).float() for seed in range(300))
    assert isinstance(hidden, Tensor)
    assert bool((hidden > 0).all())


def test_the_same_seed_draws_the_same_hairs() -> None:
    one, same, other = (hairs(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)

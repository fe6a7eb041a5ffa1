"""Ink over a picture: skin is seen through it, most of it stays bare, and what is marked stays marked."""

import numpy as np
import torch
from torch import Tensor

from service.training.drawing.brush import Plane
from service.training.ink import BLACK, INKS, MOST, RandInkd, ink, ruler, strokes

SEEDS = range(40)

SKIN = torch.tensor([210.0, 160.0, 130.0])[:, None, None]


def _inked(seed: int, prob: float = 1, size: tuple[int, int] = (48, 64)) -> tuple[Tensor, Tensor]:
    """Return plain skin under ink, and its mask: the left half."""
    mask = torch.zeros(1, *size)
    mask[:, :, : size[1] // 2] = 1
    change = RandInkd(prob)
    change.set_random_state(seed)
    item = change({"image": SKIN.expand(3, *size).clone(), "mask": mask})
    return item["image"], item["mask"]


def _covered(image: Tensor) -> float:
    """Return the share of the pixels that differ from the skin."""
    return float(((image - SKIN).abs() > 2).any(dim=0).float().mean())


def test_without_ink_nothing_changes() -> None:
    for seed in SEEDS:
        assert torch.equal(_inked(seed, prob=0)[0], SKIN.expand(3, 48, 64))


def test_ink_is_drawn_as_often_as_asked() -> None:
    inked = sum(bool((_inked(seed, prob=0.5)[0] != SKIN).any()) for seed in range(200))
    assert 70 < inked < 130


def test_a_mask_stays_as_it_was_and_so_do_size_kind_and_range() -> None:
    for seed in SEEDS:
        image, mask = _inked(seed)
        assert (image.shape, image.dtype, type(image)) == ((3, 48, 64), torch.float32, Tensor)
        assert 0 <= image.min() <= image.max() <= 255
        assert torch.equal(mask[:, :, :32], torch.ones(1, 48, 32))
        assert not mask[:, :, 32:].any()


def test_some_pictures_have_a_stroke_and_some_many_but_most_skin_stays_bare() -> None:
    shares = [_covered(_inked(seed, size=(128, 128))[0]) for seed in range(100)]
    assert min(shares) < 0.01
    assert 0.05 < max(shares) < 0.6


def test_ink_darkens_and_never_hides_what_lies_beneath() -> None:
    for seed in SEEDS:
        passed = ink(np.random.default_rng(seed), 64)
        assert passed.shape == (64, 64, 3)
        assert passed.dtype == np.float32
        assert passed.min() > 0.1
        assert passed.max() <= 1


def test_inks_are_of_several_colours_and_one_in_a_picture() -> None:
    tints = set()
    for seed in range(100):
        image = _inked(seed)[0]
        darkest = (image / SKIN).flatten(1)[:, image.sum(dim=0).argmin()]
        tints.add(int(darkest.argmax()))
    assert tints == {0, 1, 2}  # of black, whose red, green and blue vary, too
    assert len({tuple(colour) for colour in INKS}) == len(INKS)


def test_a_quarter_of_the_pictures_have_a_ruler_instead() -> None:
    greys = [_greyness(_inked(seed, size=(128, 128))[0]) for seed in range(300)]
    assert 0.35 < np.mean(np.array(greys) < 0.12) < 0.55  # rulers, and a quarter of the others: black ink


def _greyness(image: Tensor) -> float:
    """Return how far apart red, green and blue are in what passes at the darkest place."""
    passed = (image / SKIN).flatten(1)[:, image.sum(dim=0).argmin()]
    return float(passed.max() - passed.min())


def _edge(plane: Plane) -> float:
    """Return how much edge there is to what is covered, in pixels: a comb has much, a line of the same area little."""
    return float(sum(np.abs(np.diff(plane, axis=axis)).sum() for axis in (0, 1)) / plane.sum())


def test_a_ruler_is_of_fine_ticks_and_strokes_are_broad() -> None:
    ticks = [_edge(ruler(np.random.default_rng(seed), 256)) for seed in range(30)]
    marks = [_edge(strokes(np.random.default_rng(seed), 256, 6)) for seed in range(30)]
    assert np.median(ticks) > 3 * np.median(marks)


def test_as_many_strokes_as_asked_or_few_as_likely_as_many() -> None:
    one, many = (np.mean([strokes(np.random.default_rng(s), 128, n).mean() for s in SEEDS]) for n in (1, MOST))
    drawn = np.mean([strokes(np.random.default_rng(seed), 128).mean() for seed in SEEDS])
    assert 4 * one < many
    assert one < drawn < many


def test_ink_reaches_every_part_of_a_picture_that_is_not_square() -> None:
    dark = sum(((_inked(seed, size=(40, 120))[0] - SKIN).abs() > 2).any(dim=0).float() for seed in range(1000))
    assert isinstance(dark, Tensor)
    assert bool((dark > 0).all())


def test_the_same_seed_draws_the_same_ink() -> None:
    one, same, other = (ink(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_black_lets_the_least_through() -> None:
    assert min(INKS, key=lambda colour: float(colour.sum())) is BLACK

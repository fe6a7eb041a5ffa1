"""The losses: Dice + BCE, and clDice beside them, which sees whether a thin line is broken."""

import numpy as np
import pytest
import torch
from torch import Tensor

from service.training.config import Config, configure
from service.training.losses import make_loss


def _config(**changes: object) -> Config:
    return configure("data", "retina", "paper", changes)


def _logits(mask: Tensor) -> Tensor:
    return (mask - 0.5) * 12


def test_the_loss_is_dice_plus_binary_cross_entropy() -> None:
    """Eqs. 4 to 6 of the paper, one value an image, then the mean."""
    random = np.random.default_rng(0)
    logits, masks = random.normal(size=(2, 1, 9, 9)), random.integers(0, 2, (2, 1, 9, 9)).astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(masks * np.log(p) + (1 - masks) * np.log(1 - p)).mean()
    axes = (1, 2, 3)
    dice = 1 - 2 * (p * masks).sum(axes) / (p.sum(axes) + masks.sum(axes))
    loss = make_loss(_config())(torch.from_numpy(logits), torch.from_numpy(masks))
    assert float(loss) == pytest.approx(entropy + dice.mean(), rel=1e-5)


@pytest.fixture
def line() -> Tensor:
    """A mask, (1, 1, 32, 32), of a line three pixels wide."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 14:17, :] = 1
    return mask


@pytest.fixture
def broken(line: Tensor) -> Tensor:
    """The line without nine pixels: a gap across it."""
    found = line.clone()
    found[..., 14:17, 12:15] = 0
    return found


@pytest.fixture
def unbroken(line: Tensor) -> Tensor:
    """The line without nine pixels, all of one edge."""
    found = line.clone()
    found[..., 14, 9:18] = 0
    return found


def test_dice_and_cross_entropy_see_no_difference_between_a_gap_and_a_thinner_edge(
    line: Tensor, broken: Tensor, unbroken: Tensor
) -> None:
    loss = make_loss(_config())
    assert float(loss(_logits(broken), line)) == pytest.approx(float(loss(_logits(unbroken), line)))


def test_cl_dice_prefers_the_unbroken_line(line: Tensor, broken: Tensor, unbroken: Tensor) -> None:
    loss = make_loss(_config(cl_dice=0.3))
    assert loss(_logits(broken), line) > loss(_logits(unbroken), line) + 0.005
    assert loss(_logits(unbroken), line) > loss(_logits(line), line)


def test_a_thin_background_is_the_same_turned_inside_out(line: Tensor, broken: Tensor, unbroken: Tensor) -> None:
    loss = make_loss(_config(cl_dice=1, thin="foreground"))
    inverted = make_loss(_config(cl_dice=1, thin="background"))
    for found in (broken, unbroken):
        assert float(inverted(_logits(1 - found), 1 - line)) == pytest.approx(float(loss(_logits(found), line)))
    assert inverted(_logits(1 - broken), 1 - line) > inverted(_logits(1 - unbroken), 1 - line) + 0.01


def test_the_weight_mixes_the_two_losses(line: Tensor, broken: Tensor) -> None:
    alone, mixed, whole = (float(make_loss(_config(cl_dice=w))(_logits(broken), line)) for w in (0, 0.25, 1))
    assert mixed == pytest.approx(0.75 * alone + 0.25 * whole)


@pytest.mark.parametrize("foreground", [0.0, 1.0], ids=["none", "all"])
def test_a_mask_of_one_value_gives_a_loss_and_gradients(foreground: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 16, 16))).float().requires_grad_()
    loss = make_loss(_config(cl_dice=0.5))(logits, torch.full((2, 1, 16, 16), foreground))
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad.any())

"""Multiply-accumulates, counted by hand where that can be done."""

import pytest
import torch
from torch import nn

from service.network import build_reparameterized
from service.reproduction.macs import macs_an_image


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 3 * 8 * 9 * 20 * 30),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 3 * 8 * 9 * 10 * 15),
        (nn.Conv2d(3, 9, 5, padding=2, groups=3), 1 * 9 * 25 * 20 * 30),
        (nn.Conv2d(3, 8, 3, padding=2, dilation=2, bias=False), 3 * 8 * 9 * 20 * 30),
        (nn.ConvTranspose2d(3, 8, 2, stride=2), 3 * 8 * 4 * 20 * 30),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)), 12 * 5),
        (nn.Conv2d(3, 8, (20, 1)), 3 * 8 * 20 * 30),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear")), 0),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)), 0),  # in training it would need more than a pixel
    ],
    ids=["convolution", "strided", "grouped", "dilated", "transposed", "linear", "column", "uncounted", "pooled"],
)
def test_a_layer_costs_what_one_counts_by_hand(layer: nn.Module, macs: int) -> None:
    assert macs_an_image(layer, (20, 30)) == macs


def test_al_net_costs_about_12_giga_multiply_accumulates() -> None:
    assert macs_an_image(build_reparameterized("al-net"), (512, 512)) == pytest.approx(11.6e9, rel=0.01)


def test_counting_leaves_the_network_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to(torch.bfloat16).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    macs_an_image(network, (8, 8))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

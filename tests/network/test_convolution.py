"""Folding a batch norm into its convolution, whatever the convolution's shape."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from service.network import reparameterize
from service.network.convolution import TRAINED_SIZE, ConvNorm, ConvNormReLU, begin_computing
from tests.network.as_if_trained import as_if_trained

Pair = tuple[nn.Conv2d | nn.ConvTranspose2d, nn.Conv2d | nn.ConvTranspose2d]


@given(
    kind=st.sampled_from([ConvNorm, ConvNormReLU]),
    size=st.sampled_from([1, 3, 7]),
    stride=st.sampled_from([1, 2]),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
def test_the_plain_convolution_computes_the_same(
    kind: type[ConvNorm], size: int, stride: int, dilation: int, groups: int, height: int, width: int
) -> None:
    network = as_if_trained(kind(4, 6, size, stride=stride, dilation=dilation, groups=groups).double())
    plain = reparameterize(network)
    x = torch.randn(2, 4, height, width, dtype=torch.double)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), network(x), rtol=1e-12, atol=1e-12)
        assert plain(x).shape == (2, 6, -(-height // stride), -(-width // stride))
    assert {type(module) for module in plain.modules()} <= {nn.Conv2d, nn.ReLU, nn.Sequential}


def transposed() -> Pair:
    conv = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)
    return conv, nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1, bias=False)


def depthwise() -> Pair:
    return nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)


def pointwise() -> Pair:
    return nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1, bias=False)


@pytest.mark.parametrize("make", [transposed, depthwise, pointwise])
def test_begun_again_it_computes_the_same_with_weights_as_large_as_trained_ones(make: Callable[[], Pair]) -> None:
    plain, conv = make()
    axis = 1 if isinstance(plain, nn.ConvTranspose2d) else 0
    sizes = 10.0 ** torch.arange(plain.out_channels).sub(3)  # a fold's weights may be of any size, and a channel dead
    with torch.no_grad():
        plain.weight.transpose(0, axis).mul_(sizes[:, None, None, None]).transpose(0, axis)
        plain.weight.transpose(0, axis)[1] = 0
    norm = nn.BatchNorm2d(plain.out_channels, eps=1e-3).eval()
    assert plain.bias is not None
    begin_computing(conv, norm, plain.weight, plain.bias)
    x = torch.randn(2, plain.in_channels, 6, 7)
    torch.testing.assert_close(norm(conv(x)), plain(x), rtol=1e-4, atol=1e-5)
    begun = conv.weight.transpose(0, axis).detach()
    expected = torch.full([plain.out_channels], TRAINED_SIZE).index_fill(0, torch.tensor(1), 0)
    torch.testing.assert_close(begun.square().mean((1, 2, 3)).sqrt(), expected)


def test_what_was_begun_again_is_not_forgotten_in_a_few_steps() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(64, 8, 3, padding=1)
    nn.init.normal_(plain.weight, std=0.002)  # the fusion of AL-Net has 0.0023
    conv, norm = nn.Conv2d(64, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8).eval()
    assert plain.bias is not None
    begin_computing(conv, norm, plain.weight, plain.bias)
    x = torch.randn(1, 64, 8, 8)
    optimizer = torch.optim.AdamW([*conv.parameters(), *norm.parameters()], lr=3e-4)
    for _ in range(5):
        optimizer.zero_grad()
        norm(conv(x)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert float((norm(conv(x)) - plain(x)).norm() / plain(x).norm()) < 0.2  # 1.3 if the weights stay that small

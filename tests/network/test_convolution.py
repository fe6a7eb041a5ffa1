"""Folding a batch norm into its convolution, whatever the convolution's shape."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from service.network import reparameterize
from service.network.convolution import ConvNorm, ConvNormReLU
from tests.network.as_if_trained import as_if_trained


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

"""The networks that AL-Net is compared with, against their own papers. What all networks keep: test_contract.py."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import build
from service.network.cenet import DAC, RMP, CENet
from service.network.deeplabv3plus import DeepLabV3Plus
from service.network.pyconvunet import PyConv, PyConvUNet
from service.network.unetplusplus import UNetPlusPlus
from tests.network.as_if_trained import as_if_trained


def test_deeplab_sees_context_at_a_16th_and_detail_at_a_quarter_of_the_size() -> None:
    with torch.device("meta"):  # shapes only
        network = DeepLabV3Plus().eval()
        features = network.encoder(torch.zeros(1, 3, 65, 96))
        detail, context = network.detail(features[1]), network.context(features[-1])
    assert detail.shape == (1, 48, 17, 24)
    assert context.shape == (1, 256, 5, 6)


def test_deeplabs_pyramid_is_dilated_by_6_12_and_18() -> None:
    with torch.device("meta"):
        pyramid = _convolutions(DeepLabV3Plus().context)
    assert [conv.dilation for conv in pyramid if conv.kernel_size == (3, 3)] == [(6, 6), (12, 12), (18, 18)]


def test_dacs_branches_see_3_7_9_and_19_pixels() -> None:
    """CE-Net, § II-B: the receptive fields of the four cascades."""
    dac = DAC(2)
    with torch.no_grad():
        for parameter in dac.parameters():
            parameter.fill_(0.1)  # all positive, so that no ReLU hides what a branch sees
    features = torch.zeros(1, 2, 41, 41, requires_grad=True)
    fields = []
    for branch in dac.branches(features):
        (gradient,) = torch.autograd.grad(branch[0, 0, 20, 20], features, retain_graph=True)
        seen = gradient[0, 0].any(0).nonzero().flatten()
        fields.append(int(seen[-1] - seen[0]) + 1)
    assert fields == [3, 7, 9, 19]


def test_dac_adds_its_branches_to_its_input() -> None:
    dac = DAC(4)
    features = torch.randn(2, 4, 14, 14)
    branches = torch.stack(dac.branches(features))
    assert branches.amin((1, 2, 3, 4)).tolist() == [0.0] * 4  # each ends in a ReLU
    torch.testing.assert_close(dac(features), features + branches.sum(0))


def test_rmp_pools_by_2_3_5_and_6() -> None:
    """On 14×14 features, which CE-Net has of its own 448×448 images."""
    rmp = _transparent_rmp()
    features = torch.rand(1, 1, 14, 14)
    found = rmp(features)
    assert found.shape == (1, 5, 14, 14)
    for channel, pool in enumerate((2, 3, 5, 6)):
        coarse = F.max_pool2d(features, pool, pool)
        expected = F.interpolate(coarse, (14, 14), mode="bilinear", align_corners=False)
        torch.testing.assert_close(found[:, channel : channel + 1], expected)
    assert torch.equal(found[:, 4:], features)


def test_a_window_of_rmp_larger_than_the_features_shrinks_to_them() -> None:
    """Images below 192 px; the original has no answer for them."""
    features = torch.rand(1, 1, 2, 3)
    found = _transparent_rmp()(features)
    for channel in (1, 2, 3):
        torch.testing.assert_close(found[:, channel], features.amax().expand(1, 2, 3))


def test_cenet_cuts_nothing_on_a_multiple_of_32() -> None:
    """There every up-sampling meets features of exactly its size, as in the authors' forward pass."""
    network = as_if_trained(build("cenet"))
    assert isinstance(network, CENet)
    image = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        _, two, three, four, five = network.encoder(image)
        decode = list(network.decoder)
        x = decode[0](network.rmp(network.dac(five))) + four
        x = decode[3](decode[2](decode[1](x) + three) + two)
        expected = network.out(F.relu(network.refine(F.relu(network.full(x)))))
        torch.testing.assert_close(network(image), expected)


def test_unetplusplus_has_15_nodes_with_dense_skips() -> None:
    with torch.device("meta"):
        nodes = UNetPlusPlus().nodes
    inputs = {name: _convolutions(block)[0].in_channels for name, block in nodes.items()}
    assert len(inputs) == 15
    assert [inputs[f"0_{j}"] for j in range(5)] == [3, 32 + 64, 2 * 32 + 64, 3 * 32 + 64, 4 * 32 + 64]
    assert [inputs[f"{i}_0"] for i in range(1, 5)] == [32, 64, 128, 256]
    assert inputs["3_1"] == 256 + 512


def test_unetplusplus_joins_its_nodes_as_its_equation_1_says() -> None:
    network = as_if_trained(build("unetplusplus", widths=(2, 3, 4)))
    assert isinstance(network, UNetPlusPlus)
    node = network.nodes
    image = torch.randn(1, 3, 8, 12)
    with torch.inference_mode():
        x00 = node["0_0"](image)
        x10 = node["1_0"](F.max_pool2d(x00, 2))
        x20 = node["2_0"](F.max_pool2d(x10, 2))
        x01 = node["0_1"](torch.cat([x00, _twice(x10)], 1))
        x11 = node["1_1"](torch.cat([x10, _twice(x20)], 1))
        x02 = node["0_2"](torch.cat([x00, x01, _twice(x11)], 1))
        torch.testing.assert_close(network(image), network.out(x02))


def test_pyramidal_convolutions_have_their_kernels_groups_and_shares() -> None:
    levels = [_convolutions(level)[0] for level in PyConv(64).levels]
    assert [conv.kernel_size for conv in levels] == [(3, 3), (5, 5), (7, 7), (9, 9)]
    assert [conv.groups for conv in levels] == [1, 4, 8, 16]
    assert [conv.out_channels for conv in levels] == [8, 8, 16, 32]


def test_few_channels_are_split_into_as_many_groups_as_divide_them() -> None:
    assert [_convolutions(level)[0].groups for level in PyConv(16).levels] == [1, 2, 4, 8]


def test_channels_that_a_pyramidal_convolution_cannot_share_are_refused() -> None:
    with pytest.raises(BadConfig, match="a pyramidal convolution needs a multiple of 8 channels, not 4"):
        build("pyconvunet", widths=(16, 32))


def test_pyconvunet_has_two_pyramidal_convolutions_a_level_on_both_ways_and_no_plain_3x3() -> None:
    with torch.device("meta"):
        network = PyConvUNet()
    pyramids = [module for module in network.modules() if isinstance(module, PyConv)]
    assert len(pyramids) == 2 * (5 + 4)
    assert sum(conv.kernel_size == (3, 3) for conv in _convolutions(network)) == len(pyramids)


def test_pyconvunet_joins_equal_levels() -> None:
    network = as_if_trained(build("pyconvunet", widths=(8, 16, 24), narrowing=1))
    assert isinstance(network, PyConvUNet)
    image = torch.randn(1, 3, 8, 12)
    with torch.inference_mode():
        fine = network.first(image)
        middle = network.down[0](F.max_pool2d(fine, 2))
        coarse = network.down[1](F.max_pool2d(middle, 2))
        x = network.up[1](torch.cat([middle, network.narrow[1](_twice(coarse))], 1))
        x = network.up[0](torch.cat([fine, network.narrow[0](_twice(x))], 1))
        torch.testing.assert_close(network(image), network.out(x))


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _transparent_rmp() -> RMP:
    """Return an RMP of one channel whose 1×1 convolution changes nothing."""
    rmp = RMP(1).requires_grad_(requires_grad=False)
    assert rmp.project.bias is not None
    rmp.project.weight.fill_(1)
    rmp.project.bias.zero_()
    return rmp


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

"""ResNet encoders against their paper: parameters, strides, and what a block computes."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from service.network import count_parameters, reparameterize
from service.network.resnet import BasicBlock, Bottleneck, resnet_encoder
from tests.network.as_if_trained import as_if_trained


@pytest.mark.parametrize(("kind", "parameters"), [("resnet34", 21_284_672), ("resnet101", 42_500_160)])
def test_the_encoder_has_the_published_parameters_without_the_classifier(
    kind: Literal["resnet34", "resnet101"], parameters: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(resnet_encoder(kind)) == parameters


@pytest.mark.parametrize(("output_stride", "last"), [(32, (512, 3, 3)), (16, (512, 5, 6))])
def test_features_lie_at_their_strides(output_stride: Literal[16, 32], last: tuple[int, int, int]) -> None:
    encoder = resnet_encoder("resnet34", output_stride=output_stride).eval()
    with torch.inference_mode():
        shapes = [tuple(feature.shape[1:]) for feature in encoder(torch.zeros(1, 3, 65, 96))]
    assert shapes == [(64, 33, 48), (64, 17, 24), (128, 9, 12), (256, 5, 6), last]
    assert encoder.widths == tuple(channels for channels, _, _ in shapes)


def test_with_output_stride_16_the_last_stage_is_dilated_and_has_the_same_weights() -> None:
    stage, dilated = resnet_encoder("resnet34").stages[-1], resnet_encoder("resnet34", output_stride=16).stages[-1]
    assert [(conv.stride, conv.dilation) for conv in _convolutions_3x3(dilated)] == [((1, 1), (2, 2))] * 6
    dilated.load_state_dict(stage.state_dict())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_basic_block_adds_its_input(stride: int) -> None:
    block = as_if_trained(BasicBlock(4, 4, stride=stride))
    x = torch.randn(2, 4, 7, 10)
    inner, outer = block.get_submodule("body.0"), block.get_submodule("body.1")
    conv1, norm1 = inner.get_submodule("conv"), inner.get_submodule("norm")
    conv2, norm2 = outer.get_submodule("conv"), outer.get_submodule("norm")
    carried = x if stride == 1 else block.get_submodule("shortcut.norm")(block.get_submodule("shortcut.conv")(x))
    with torch.inference_mode():
        expected = F.relu(norm2(conv2(F.relu(norm1(conv1(x))))) + carried)
        assert torch.equal(block(x), expected)


def test_a_bottleneck_strides_by_its_3x3_so_that_every_pixel_is_seen() -> None:
    block = Bottleneck(4, 2, stride=2)
    assert [conv.stride for conv in block.body.modules() if isinstance(conv, nn.Conv2d)] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("shape", [{"stride": 1}, {"stride": 2}, {"dilation": 2}], ids=str)
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_re_parameterised_blocks_compute_the_same(
    kind: type[BasicBlock] | type[Bottleneck], shape: dict[str, int]
) -> None:
    block = as_if_trained(kind(6, 5, **shape).double())
    plain = reparameterize(block)
    x = torch.randn(2, 6, 9, 12, dtype=torch.double)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), block(x), rtol=1e-12, atol=1e-12)
    assert not [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]


def _convolutions_3x3(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]

"""The form for GPUs computes what the network does, on any size; checked on a CPU, where its sums are the same.

What differs on a GPU, cuDNN's fused kernels, is checked in tests/gpu.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from service.network import build, reparameterize
from service.network.alnet import fuse
from service.network.fused_convolution import FusedConvReLU, fuse_convolutions
from service.network.on_gpu import ALNetOnGPU, on_gpu
from service.network.separable_fusion import SeparableFusion
from tests.checkpoints import TINY
from tests.network.as_if_trained import as_if_trained
from tests.one_thread import one_thread

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def trained(**changes: Any) -> nn.Module:
    return reparameterize(as_if_trained(build("al-net", **(TINY | changes)))).double()


def furthest(network: nn.Module, grid: tuple[int, int]) -> float:
    """Return how far the form for GPUs is from `network`, as a share of the largest logit."""
    image = torch.randn(2, 3, *grid, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    twin = on_gpu(network, grid)
    with torch.inference_mode():
        expected, found = network(image), twin(image)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("grid", [(64, 96), (61, 45), (32, 32), (1, 1), (2, 65)])
@pytest.mark.parametrize("fusion_stride", [1, 2])
def test_both_answer_alike(grid: tuple[int, int], fusion_stride: int) -> None:
    assert furthest(trained(fusion_stride=fusion_stride), grid) <= 1e-9


@pytest.mark.parametrize("stages", [2, 4, 6])
@pytest.mark.parametrize("fusion_stride", [1, 2])
def test_both_answer_alike_with_any_number_of_stages(stages: int, fusion_stride: int) -> None:
    shape = {"blocks": [1] * stages, "widths": list(range(3, 3 + stages)), "fusion_stride": fusion_stride}
    assert furthest(trained(**shape), (61, 96)) <= 1e-9


@pytest.mark.parametrize("changes", [{"context": "aspp"}, {"decoder": "u"}, {"encoder": "efficientnet-lite0"}])
def test_both_answer_alike_in_the_variants(changes: dict[str, str]) -> None:
    network = reparameterize(as_if_trained(build("al-net", **changes))).double()
    assert furthest(network, (45, 64)) <= 1e-9


@pytest.mark.parametrize("name", ["repvgg-unet", "pyconvunet"])
def test_of_other_networks_the_convolutions_alone_are_fused(name: str) -> None:
    network = reparameterize(as_if_trained(build(name))).double()
    assert furthest(network, (64, 64)) <= 1e-9
    assert not isinstance(on_gpu(network, (64, 64)), ALNetOnGPU)


def test_the_network_is_not_changed_and_nothing_is_shared_with_it() -> None:
    network = trained()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for parameter in on_gpu(network, (64, 64)).parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_convolution_with_a_relu_behind_it_is_fused_and_no_other() -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.Sigmoid()),
    )
    fused = fuse_convolutions(network).children()
    assert [isinstance(part, FusedConvReLU) for part in fused] == [True, False, False]
    assert not any(isinstance(part, FusedConvReLU) for part in network)


def test_at_512_every_convolution_of_the_encoder_is_fused() -> None:
    network = reparameterize(build("al-net"))
    of_encoder = sum(isinstance(part, nn.Conv2d) for part in network.get_submodule("encoder").modules())
    form = on_gpu(network, (512, 512)).get_submodule("encoder")
    assert sum(isinstance(part, FusedConvReLU) for part in form.modules()) == of_encoder


@settings(max_examples=30, deadline=None)
@given(
    fine=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    shrink=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    with_fine=st.booleans(),
    outputs=st.integers(1, 5),
)
def test_the_separable_fusion_is_the_convolution_of_the_fused_features(
    fine: tuple[int, int], shrink: list[int], with_fine: bool, outputs: int
) -> None:
    sizes = [fine] * with_fine + [(-(-fine[0] // factor), -(-fine[1] // factor)) for factor in sorted(shrink)]
    channels = [3 + number for number in range(len(sizes))]
    convolution = nn.Conv2d(sum(channels), outputs, 3, padding=1).double()
    features = [torch.randn(2, n, *size, dtype=torch.float64) for n, size in zip(channels, sizes, strict=True)]
    like = torch.empty(2, 1, *fine)
    fusion = SeparableFusion(convolution, channels, sizes, fine)
    with torch.inference_mode():
        expected, found = convolution(fuse(features, like)).relu(), fusion(features)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)

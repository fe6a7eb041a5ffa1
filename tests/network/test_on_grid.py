"""A network for one size computes what the network for all sizes does, on any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from service.network import build, reparameterize
from service.network.alnet import fuse
from service.network.coarse_fusion import CoarseFusion
from service.network.on_grid import on_grid
from service.network.upsample import upsample
from service.network.upsampling_matrices import UpsampledSum, shifted_upsampling, upsampling
from tests.checkpoints import TINY
from tests.network.as_if_trained import as_if_trained
from tests.one_thread import one_thread

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.mark.parametrize("grid", [(64, 96), (61, 45), (32, 32), (1, 1)])
@pytest.mark.parametrize("fusion_stride", [1, 2])
def test_both_answer_alike(grid: tuple[int, int], fusion_stride: int) -> None:
    network = reparameterize(as_if_trained(build("al-net", **(TINY | {"fusion_stride": fusion_stride})))).double()
    image = torch.randn(2, 3, *grid, dtype=torch.float64)
    twin = on_grid(network, grid)
    with torch.inference_mode():
        expected, found = network(image), twin(image)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("fusion_stride", [1, 2])
def test_both_answer_alike_where_every_feature_stays_coarse(fusion_stride: int) -> None:
    """The widths that are shipped: with stride 1 no feature of such a grid is convolved at full size."""
    network = reparameterize(as_if_trained(build("al-net", fusion_stride=fusion_stride))).double()
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    twin = on_grid(network, (64, 96))
    with torch.inference_mode():
        expected, found = network(image), twin(image)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("stages", [2, 4, 6])
@pytest.mark.parametrize("fusion_stride", [1, 2])
def test_both_answer_alike_with_any_number_of_stages(stages: int, fusion_stride: int) -> None:
    shape = {"blocks": [1] * stages, "widths": list(range(3, 3 + stages)), "fusion_stride": fusion_stride}
    network = reparameterize(as_if_trained(build("al-net", **(TINY | shape)))).double()
    image = torch.randn(1, 3, 61, 96, dtype=torch.float64)
    twin = on_grid(network, (61, 96))
    with torch.inference_mode():
        torch.testing.assert_close(twin(image), network(image))


def test_the_networks_parameters_are_not_changed() -> None:
    network = reparameterize(build("al-net", **TINY))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    on_grid(network, (64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_at_512_the_two_coarsest_features_stay_coarse() -> None:
    network = on_grid(reparameterize(build("al-net")), (512, 512))
    ways = [network.get_submodule(f"fusion.{way}") for way in ("direct", "coarse")]
    assert [len(list(way.children())) for way in ways] == [2, 2]


@pytest.mark.parametrize("name", ["repvgg-unet", "pyconvunet"])
def test_a_network_without_such_a_form_is_left_as_it_is(name: str) -> None:
    network = reparameterize(build(name))
    assert on_grid(network, (64, 64)) is network


def test_a_network_that_is_still_in_training_is_left_as_it_is() -> None:
    network = build("al-net", **TINY)
    assert on_grid(network, (64, 64)) is network


@settings(max_examples=30, deadline=None)
@given(
    fine=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    shrink=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    outputs=st.integers(1, 5),
)
def test_a_fusion_on_coarse_grids_is_the_convolution_of_the_fused_features(
    fine: tuple[int, int], shrink: list[int], outputs: int
) -> None:
    sizes = [(-(-fine[0] // factor), -(-fine[1] // factor)) for factor in sorted(shrink)]
    like = torch.empty(2, 1, *fine, dtype=torch.float64)
    channels = [3 + number for number in range(len(sizes))]
    convolution = nn.Conv2d(sum(channels), outputs, 3, padding=1).double()
    features = [torch.randn(2, n, *size, dtype=torch.float64) for n, size in zip(channels, sizes, strict=True)]
    fusion = CoarseFusion(convolution, channels, sizes, fine)
    with torch.inference_mode():
        expected, found = convolution(fuse(features, like)), fusion(features, like)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)


def test_up_sampling_by_a_matrix_is_up_sampling() -> None:
    maps = [torch.randn(2, 1, 16, 24, dtype=torch.float64), torch.randn(2, 1, 4, 3, dtype=torch.float64)]
    like = torch.empty(1, 1, 32, 48)
    found = UpsampledSum([(16, 24), (4, 3)], (32, 48), torch.float64)(maps)
    assert torch.allclose(found, upsample(maps[0], like) + upsample(maps[1], like), rtol=0, atol=1e-12)


def test_a_shift_brings_in_zeros_from_outside() -> None:
    before, middle, after = shifted_upsampling(4, 8).chunk(3, 1)
    assert torch.equal(middle, upsampling(4, 8))
    assert torch.equal(before, torch.cat([torch.zeros(1, 4, dtype=torch.float64), middle[:-1]]))
    assert torch.equal(after, torch.cat([middle[1:], torch.zeros(1, 4, dtype=torch.float64)]))

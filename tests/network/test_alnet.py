"""AL-Net against its paper: parameters (Tables 2 to 5), strides (Fig. 1), and both forms computing the same (§ 3.5)."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from service.network import build, count_parameters, reparameterize
from service.network.alnet import ALNet
from tests.network.as_if_trained import as_if_trained

small_widths = st.lists(st.integers(1, 6), min_size=5, max_size=5)
small_blocks = st.lists(st.integers(1, 3), min_size=5, max_size=5)
sides = st.integers(1, 70)


def test_al_net_has_the_papers_parameters() -> None:
    plain = reparameterize(build("al-net"))
    assert 3.445e6 <= count_parameters(plain) <= 3.455e6


@pytest.mark.parametrize("fusion_stride", [1, 2])
@pytest.mark.parametrize("size", [(64, 96), (65, 43), (32, 32), (7, 121)], ids=str)
def test_both_forms_of_the_full_network_agree(fusion_stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(fusion_stride)
    network = as_if_trained(build("al-net", fusion_stride=fusion_stride).double())
    image = torch.randn(1, 3, *size, dtype=torch.double)
    with torch.inference_mode():
        expected, found = network(image), reparameterize(network)(image)
    assert float((expected - found).abs().max() / expected.abs().max()) < 1e-9


@settings(max_examples=40, deadline=None)
@given(small_widths, small_blocks, st.sampled_from([1, 2]), sides, sides, st.integers(0, 2**31))
def test_both_forms_of_random_networks_agree(
    widths: list[int], blocks: list[int], fusion_stride: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    network = build(
        "al-net",
        widths=widths,
        blocks=blocks,
        context_channels=4,
        decoder_channels=(5, 3),
        head_channels=4,
        fusion_stride=fusion_stride,
    )
    network = as_if_trained(network.double())
    image = torch.randn(2, 3, height, width, dtype=torch.double)
    with torch.inference_mode():
        torch.testing.assert_close(reparameterize(network)(image), network(image), rtol=1e-9, atol=1e-12)


def test_reparameterising_leaves_its_argument_alone() -> None:
    network = as_if_trained(build("al-net"))
    before = copy.deepcopy(network.state_dict())
    reparameterize(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_plain_form_has_convolutions_and_relus_only() -> None:
    leaves = {type(module) for module in reparameterize(build("al-net")).modules() if not list(module.children())}
    assert leaves == {nn.Conv2d, nn.ReLU}


def test_each_repvgg_block_becomes_one_3x3_convolution() -> None:
    plain = reparameterize(build("al-net"))
    kernels = [
        module.kernel_size for module in plain.get_submodule("encoder").modules() if isinstance(module, nn.Conv2d)
    ]
    assert kernels == [(3, 3)] * (1 + 2 + 4 + 14 + 1)


def test_features_lie_at_their_strides() -> None:
    network = build("al-net")
    assert isinstance(network, ALNet)
    with torch.inference_mode():
        shapes = [tuple(feature.shape[1:]) for feature in network.encoder(torch.zeros(1, 3, 65, 96))]
    assert shapes == [(48, 33, 48), (48, 17, 24), (96, 9, 12), (144, 5, 6), (320, 3, 3)]


def test_the_two_fusion_grids_are_two_networks_of_one_size() -> None:
    coarse, fine = build("al-net", fusion_stride=2), build("al-net", fusion_stride=1)
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(coarse.eval()(image), fine.eval()(image))


def test_every_stage_of_the_encoder_reaches_the_answer() -> None:
    """A decoder that forgot one of F1 to F5 would still have the right shape."""
    torch.manual_seed(0)
    network = as_if_trained(build("al-net").double())
    assert isinstance(network, ALNet)
    image = torch.randn(1, 3, 64, 64, dtype=torch.double)
    features = [feature.detach().requires_grad_() for feature in network.encoder(image)]
    *fine, coarsest = features
    low = network.low(network.decoder(torch.cat([F.interpolate(f, (32, 32), mode="bilinear") for f in fine], 1)))
    high = network.high(
        F.interpolate(F.interpolate(network.context(coarsest), (4, 4), mode="bilinear"), (64, 64), mode="bilinear")
    )
    by_hand = network.out(F.interpolate(low, (64, 64), mode="bilinear") + high)
    torch.testing.assert_close(network(image), by_hand)
    by_hand.sum().backward()
    assert all(feature.grad is not None and bool(feature.grad.any()) for feature in features)

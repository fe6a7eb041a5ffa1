"""U-Net's decoder: on which grids it works, and that each skip connection reaches the answer."""

import torch
from torch import nn

from service.network import build
from service.network.lraspp import LRASPP
from service.network.unet import UNet, UNetDecoder


def test_each_level_works_on_the_grid_of_its_skip_connection() -> None:
    decoder = UNetDecoder(5, skips=(2, 3, 4), channels=(6, 7, 8)).eval()
    sizes: list[tuple[int, ...]] = []
    for level in decoder.levels:
        level.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape)))
    fine = [torch.randn(1, 2, 21, 17), torch.randn(1, 3, 11, 9), torch.randn(1, 4, 6, 5)]
    decoder(torch.randn(1, 5, 3, 3), fine)
    assert sizes == [(1, 6, 6, 5), (1, 7, 11, 9), (1, 8, 21, 17)]


def test_every_skip_connection_reaches_the_answer() -> None:
    decoder = UNetDecoder(5, skips=(2, 3, 4), channels=(6, 7, 8)).double().eval()
    shapes = [(1, 5, 3, 3), (1, 2, 16, 16), (1, 3, 8, 8), (1, 4, 4, 4)]
    coarsest, *fine = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    decoder(coarsest, fine).sum().backward()
    assert all(feature.grad is not None and bool(feature.grad.any()) for feature in (coarsest, *fine))


def test_the_baseline_is_al_net_with_the_u_decoder_and_without_context() -> None:
    baseline, variant = build("repvgg-unet"), build("al-net", decoder="u")
    assert isinstance(baseline, UNet)
    assert isinstance(variant, UNet)
    assert isinstance(baseline.context, nn.Identity)
    assert isinstance(variant.context, LRASPP)
    variant.encoder.load_state_dict(baseline.encoder.state_dict())

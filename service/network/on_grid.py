"""Networks for images of only one size, where knowing the size saves work."""

import torch.nn.functional as F
from torch import Tensor, nn

from service.network.alnet import PlainALNet
from service.network.coarse_fusion import CoarseFusion
from service.network.upsample import upsample
from service.network.upsampling_matrices import Size, UpsampledSum


def on_grid(network: nn.Module, grid: Size) -> nn.Module:
    """Return a network that computes what the re-parameterised `network` does on images of `grid`, with less work.

    It shares the parameters, except those that it rearranges. If no such network is known, it is `network` itself.
    """
    return ALNetOnGrid(network, grid) if isinstance(network, PlainALNet) else network


class ALNetOnGrid(nn.Module):
    """`PlainALNet` for images of one size. Takes and gives what `PlainALNet` does.

    Its fusion is a `CoarseFusion`, and an `UpsampledSum` up-samples to the image's size.
    """

    def __init__(self, network: PlainALNet, grid: Size) -> None:
        super().__init__()
        fused = network.encoder.widths[:-1]
        sizes = feature_sizes(grid, len(fused))
        first = network.decoder.get_submodule("0.0")
        if not isinstance(first, nn.Conv2d):
            raise TypeError("the decoder is not re-parameterised: it begins with no plain convolution")
        self.second = network.decoder[1]
        self.encoder, self.context, self.low, self.high = network.encoder, network.context, network.low, network.high
        self.fuses_on_image = network.fusion_stride == 1
        fine = grid if self.fuses_on_image else sizes[0]
        self.fusion = CoarseFusion(first, fused, sizes, fine)
        self.sum = UpsampledSum([fine, sizes[-1]], grid, first.weight.dtype)

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eqs. 1 to 3, as `PlainALNet.forward`."""
        *fine, coarsest = self.encoder(image)
        fused = F.relu(self.fusion(fine, image if self.fuses_on_image else fine[0]))
        high = upsample(self.high(self.context(coarsest)), fine[-1])
        logits: Tensor = self.sum([self.low(self.second(fused)), high])
        return logits


def feature_sizes(grid: Size, stages: int) -> list[Size]:
    """Return the grids of the first `stages` features: each stage of the encoder halves the grid, rounding up."""
    sizes = []
    height, width = grid
    for _ in range(stages):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes

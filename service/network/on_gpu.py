"""AL-Net for a GPU and images of one size: few kernels, all of them products or convolutions for tensor cores."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.alnet import PlainALNet
from service.network.fused_convolution import fuse_convolutions
from service.network.lraspp import LRASPP
from service.network.on_grid import feature_sizes
from service.network.separable_fusion import SeparableFusion
from service.network.upsampling_matrices import Size, upsampling


def on_gpu(network: nn.Module, grid: Size) -> nn.Module:
    """Return a network that computes what the re-parameterised `network` does on images of `grid`, with fewer kernels.

    It shares nothing with `network`. If no better form is known, it is `network` with fused convolutions.
    """
    fused = fuse_convolutions(network)
    return ALNetOnGPU(fused, grid) if isinstance(fused, PlainALNet) else fused


class ALNetOnGPU(nn.Module):
    """`PlainALNet` for images of one size. Takes and gives what `PlainALNet` does; fastest with channels last."""

    def __init__(self, network: PlainALNet, grid: Size) -> None:
        super().__init__()
        fused = network.encoder.widths[:-1]
        *sizes, coarsest = feature_sizes(grid, len(fused) + 1)
        first = network.decoder.get_submodule("0.conv")
        if not isinstance(first, nn.Conv2d):
            raise TypeError("the decoder is not re-parameterised: it begins with no plain convolution")
        fine = grid if network.fusion_stride == 1 else sizes[0]
        self.encoder, self.low, self.high, self.second = network.encoder, network.low, network.high, network.decoder[1]
        context = network.context
        self.context = ContextOnGPU(context) if isinstance(context, LRASPP) else context
        self.fusion = SeparableFusion(first, fused, sizes, fine)
        like = first.weight
        self.low_up = _Upsampling(upsampling(fine[0], grid[0]), upsampling(fine[1], grid[1]), like)
        twice = [
            upsampling(between, whole) @ upsampling(coarse, between)
            for coarse, between, whole in zip(coarsest, sizes[-1], grid, strict=True)
        ]
        self.high_up = _Upsampling(twice[0], twice[1], like)

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eqs. 1 to 3, as `PlainALNet.forward`."""
        *fine, coarsest = self.encoder(image)
        low = self.low_up(self.low(self.second(self.fusion(fine))), None)
        logits: Tensor = self.high_up(self.high(self.context(coarsest)), low)
        return logits


class ContextOnGPU(nn.Module):
    """`LRASPP` with its mean as a product: a reduction takes a GPU three times as long on such a small grid."""

    def __init__(self, context: LRASPP) -> None:
        super().__init__()
        self.project, self.gate = context.project, context.gate

    def forward(self, x: Tensor) -> Tensor:
        """Weight the projected features by the gate."""
        number, channels, height, width = x.shape
        points = x.permute(0, 2, 3, 1).reshape(number, height * width, channels)
        mean = torch.bmm(x.new_full((1, 1, 1), 1 / (height * width)).expand(number, 1, height * width), points)
        gate = F.hardsigmoid(F.linear(mean[:, 0], self.gate.weight.flatten(1), self.gate.bias))
        features: Tensor = self.project(x)
        return features * gate[..., None, None]


class _Upsampling(nn.Module):
    """Up-samples maps of one channel, (N, 1, h, w) to (N, 1, H, W), and adds them to `onto` unless it is None."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.to(like), persistent=False)
        self.register_buffer("columns", columns.T.contiguous().to(like), persistent=False)

    def forward(self, maps: Tensor, onto: Tensor | None) -> Tensor:
        number = maps.shape[0]
        wide = torch.matmul(maps[:, 0], self.columns)
        rows = self.rows.expand(number, -1, -1)
        whole = torch.bmm(rows, wide) if onto is None else torch.baddbmm(onto[:, 0], rows, wide)
        return whole[:, None]

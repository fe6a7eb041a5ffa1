"""The a-decoder's first convolution, computed where it costs least: for coarse features, on their own grids.

AL-Net brings F1 to F4 to one grid and convolves all channels there, 3×3 (Eq. 2). That takes half of the network's
multiply-accumulates. Bilinear up-sampling and a convolution are both linear, so the share of a coarse feature x is
exactly

    y = Σ over taps (i, j) of D_i · (W_ij x) · A_jᵀ

where W_ij x is a 1×1 convolution on the coarse grid, and D_i and A_j are the up-sampling of rows and of columns,
shifted by the tap and zero where the convolution's padding is: three products instead of a convolution on the fine
grid.
"""

from collections.abc import Sequence
from functools import reduce
from math import prod

import torch
from torch import Tensor, nn

from service.network.upsample import upsample
from service.network.upsampling_matrices import Size, shifted_upsampling


class CoarseFusion(nn.Module):
    """Computes `conv(fuse(features, like))` for features of fixed `sizes` and a `like` of the size `fine`.

    `conv` is a 3×3 convolution of padding 1 with a bias. Which features take the coarse way is decided once, by
    counting multiply-accumulates. The others are up-sampled as usual; each is convolved by itself, which saves a copy.
    """

    across: Tensor

    def __init__(self, conv: nn.Conv2d, channels: Sequence[int], sizes: Sequence[Size], fine: Size) -> None:
        super().__init__()
        shares = torch.split(conv.weight.detach(), list(channels), 1)
        parts = list(zip(shares, sizes, strict=True))
        n_direct = next((n for n, part in enumerate(parts) if _is_cheaper(*part, fine)), len(parts))
        self.direct = nn.ModuleList(
            share_of(share, None if number else conv.bias) for number, share in enumerate(shares[:n_direct])
        )
        self.bias = None if n_direct else conv.bias
        self.coarse = nn.ModuleList(TapColumns(*part, fine) for part in parts[n_direct:])
        across = [shifted_upsampling(size[1], fine[1]).T for size in sizes[n_direct:]]
        joined = torch.cat([*across, torch.zeros(0, fine[1])])
        self.register_buffer("across", joined.to(conv.weight), persistent=False)

    def forward(self, features: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return (N, out, h, w) on the grid of `like`, for features of (N, C, h, w), the finest first."""
        parts = [conv(upsample(feature, like)) for conv, feature in zip(self.direct, features, strict=False)]
        if self.coarse:
            columns = [taps(x) for taps, x in zip(self.coarse, features[len(self.direct) :], strict=True)]
            parts.append(torch.cat(columns, 2).transpose(2, 3) @ self.across)
        if self.bias is not None:
            parts.append(self.bias.view(1, -1, 1, 1))
        fused: Tensor = reduce(torch.add, parts)
        return fused


class TapColumns(nn.Module):
    """The part of the product that mixes channels and rows: Σ over i of D_i · (W_ij x), for each j, transposed.

    Takes (N, C, h, w); gives (N, out, 3·w, H): for each output channel, the three taps j one above the other.
    """

    down: Tensor

    def __init__(self, weight: Tensor, coarse: Size, fine: Size) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.taps = nn.Conv2d(inputs, 9 * outputs, 1, bias=False)
        self.taps.weight.data = weight.permute(2, 0, 3, 1).reshape(9 * outputs, inputs, 1, 1)
        self.register_buffer("down", shifted_upsampling(coarse[0], fine[0]).T.to(weight), persistent=False)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the columns described above, transposed so that both products have their constant last."""
        beside = torch.cat(self.taps(x.transpose(2, 3)).chunk(3, 1), 3)
        columns = beside @ self.down
        return columns.reshape(x.shape[0], self.outputs, 3 * x.shape[3], self.down.shape[1])


def share_of(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return the 3×3 convolution for a share of another one's inputs, of which `weight` is (out, in, 3, 3)."""
    outputs, inputs = weight.shape[:2]
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    convolution.weight.data = weight.contiguous()
    convolution.bias = None if bias is None else nn.Parameter(bias)
    return convolution


def _is_cheaper(weight: Tensor, coarse: Size, fine: Size) -> bool:
    """Whether the coarse way takes fewer multiply-accumulates than the convolution on the fine grid."""
    outputs = weight.shape[0]
    taps = weight.numel() * prod(coarse)
    down = 3 * outputs * coarse[1] * 3 * coarse[0] * fine[0]
    across = outputs * fine[0] * 3 * coarse[1] * fine[1]
    return taps + across + down < weight.numel() * prod(fine)

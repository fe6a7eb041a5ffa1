"""PyConvU-Net: a U-Net whose 3×3 convolutions are pyramidal ones.

Li, Fan and Cai, BMC Bioinformatics 22:14, 2021, doi:10.1186/s12859-020-03943-2. Pyramidal convolutions are those of
Duta, Liu, Zhu and Shao, arXiv:2006.11538, § 3; the U-Net is Ronneberger et al.'s, MICCAI 2015, Fig. 1.

As in the authors' published code (StevenAZy/PyConvU-Net): kernels, groups, and each kernel's share of the channels; the
block that stands for a 3×3 (1×1, pyramidal, 1×1, each with batch norm and ReLU, without residual); two blocks a level,
five levels. Our own: U-Net's widths; blocks that narrow by 4, as Duta et al.'s do; no further batch norm and ReLU
behind each block, as the code has; up-sampling by a 1×1 convolution and bilinearly, where the code has a transposed
2×2. The code's widths (128 to 2048) would give 23 M parameters, not the published 3.7 M.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU
from service.network.upsample import upsample

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels of the levels, finest first, as in U-Net."""

KERNELS = (3, 5, 7, 9)
GROUPS = (1, 4, 8, 16)
"""The groups of each kernel: the larger the kernel, the fewer channels each of its filters sees."""

SHARES = (8, 8, 4, 2)
"""What the channels are divided by for each level of the pyramid: the levels give 1/8, 1/8, 1/4 and 1/2 of them."""


class PyConvUNet(nn.Module):
    """Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1: poolings round up.

    In training form it has 3.68 M parameters (AL-Net paper, Table 5: 3.7). Weights start as PyTorch's defaults.

    Args:
        widths: channels of the levels, finest first, each a multiple of 8 × `narrowing`.
        narrowing: a block's pyramidal convolution has this many times fewer channels than the block gives.
    """

    def __init__(self, *, widths: Sequence[int] = WIDTHS, narrowing: int = 4) -> None:
        super().__init__()
        finer, coarser = widths[:-1], widths[1:]
        self.first = _two_blocks(3, widths[0], narrowing)
        self.down = nn.ModuleList(_two_blocks(a, b, narrowing) for a, b in zip(finer, coarser, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(finer, coarser, strict=True))
        self.up = nn.ModuleList(_two_blocks(2 * a, a, narrowing) for a in finer)
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Go down by 2×2 max pooling and up again; each level up is joined to the same level down."""
        skips = [self.first(image)]
        for down in self.down:
            skips.append(down(F.max_pool2d(skips[-1], 2, ceil_mode=True)))
        x = skips.pop()
        for narrow, up in zip(reversed(self.narrow), reversed(self.up), strict=True):
            skip = skips.pop()
            # A 1×1 convolution commutes with bilinear up-sampling: it runs first, where there are fewer pixels.
            x = upsample(narrow(x), like=skip)
            x = up(torch.cat([skip, x], 1))
        logits: Tensor = self.out(x)
        return logits


class PyConv(nn.Module):
    """Convolutions of several sizes side by side, each with batch norm and ReLU, their outputs concatenated.

    Takes (N, channels, H, W) and gives the same shape. With few channels, a level has only as many groups as divide its
    share of the channels.

    Raises:
        ValueError: `channels` is not divisible by 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % max(SHARES):
            raise ValueError(f"a pyramidal convolution needs a multiple of {max(SHARES)} channels, not {channels}")
        self.levels = nn.ModuleList(
            ConvNormReLU(channels, channels // share, kernel, groups=math.gcd(groups, channels // share))
            for kernel, groups, share in zip(KERNELS, GROUPS, SHARES, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the pyramid's levels, smallest kernel first."""
        return torch.cat([level(x) for level in self.levels], 1)


def _two_blocks(in_channels: int, out_channels: int, narrowing: int) -> nn.Sequential:
    return nn.Sequential(_block(in_channels, out_channels, narrowing), _block(out_channels, out_channels, narrowing))


def _block(in_channels: int, out_channels: int, narrowing: int) -> nn.Sequential:
    """Return the 1×1, the pyramidal convolution and the 1×1 that stand for one 3×3 of U-Net."""
    channels = out_channels // narrowing
    return nn.Sequential(
        ConvNormReLU(in_channels, channels, 1), PyConv(channels), ConvNormReLU(channels, out_channels, 1)
    )

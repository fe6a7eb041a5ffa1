"""Atrous spatial pyramid pooling, DeepLab's context extractor (Chen et al., arXiv:1706.05587, § 3.3 and Fig. 5)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU


class ASPP(nn.Module):
    """A 1×1 convolution, a 3×3 convolution dilated by each of `rates`, and the image's mean, side by side; then 1×1.

    Takes (N, in_channels, H, W); gives (N, channels, H, W), at least 0. Each branch has `channels` channels, batch norm
    and ReLU. Only the branch of the image's mean has a bias instead of the batch norm: the mean is one pixel per image,
    so that a batch of one would have no statistics in training, and a small batch poor ones.
    """

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNormReLU(in_channels, channels, 1)])
        self.branches.extend(ConvNormReLU(in_channels, channels, 3, dilation=rate) for rate in rates)
        self.mean = nn.Conv2d(in_channels, channels, 1)
        self.project = ConvNormReLU((len(rates) + 2) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the context at every pixel, seen at all rates."""
        mean = F.relu(self.mean(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])
        context: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), mean], 1))
        return context

"""Lite R-ASPP, the context extractor (Howard et al., ICCV 2019, Fig. 10; AL-Net paper, § 3.2 and Fig. 3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU


class LRASPP(nn.Module):
    """A 1×1 convolution (batch norm, ReLU), each channel of which is weighted by a gate that sees the whole image.

    Takes (N, in_channels, H, W); gives (N, channels, H, W). The gate: global average pool, 1×1, hard sigmoid.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = ConvNormReLU(in_channels, channels, 1)
        self.gate = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the projected features by the gate."""
        gate = F.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        features: Tensor = self.project(x)
        return features * gate

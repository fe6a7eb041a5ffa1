"""U-Net's decoder on any encoder (Ronneberger et al., MICCAI 2015, arXiv:1505.04597, Fig. 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU
from service.network.repvgg import Encoder
from service.network.upsample import upsample


class UNetDecoder(nn.Module):
    """For each level: up-sample, join the next finer features, apply two 3×3 convolutions (batch norm, ReLU).

    Up-sampling is bilinear and convolutions keep the size; the paper has up-convolutions and crops instead.

    Args:
        in_channels: channels of the coarsest features.
        skips: channels of the encoder's finer features, finest first.
        channels: channels of each level's convolutions, coarsest first; as many as `skips`.

    Raises:
        ValueError: `channels` and `skips` differ in length.
    """

    def __init__(self, in_channels: int, skips: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) != len(skips):
            raise ValueError(f"decoder_channels are one for each of {len(skips)} levels, not {len(channels)}")
        below = (in_channels, *channels[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormReLU(deep + skip, width, 3), ConvNormReLU(width, width, 3))
            for deep, skip, width in zip(below, reversed(skips), channels, strict=True)
        )

    def forward(self, coarsest: Tensor, fine: Sequence[Tensor]) -> Tensor:
        """Return (N, channels[-1], H, W) with the size of fine[0]; `fine` is finest first."""
        x = coarsest
        for level, skip in zip(self.levels, reversed(fine), strict=True):
            x = level(torch.cat([upsample(x, skip), skip], 1))
        return x


class UNet(nn.Module):
    """An encoder, a module on its coarsest features, U-Net's decoder and a 1×1.

    Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1.

    Args:
        encoder: gives F1, F2, …, finest first.
        context: what the coarsest of them passes through.
        context_channels: how many channels `context` gives.
        decoder_channels: channels of the decoder's levels, coarsest first.
    """

    def __init__(
        self, encoder: Encoder, context: nn.Module, *, context_channels: int, decoder_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context
        self.decoder = UNetDecoder(context_channels, encoder.widths[:-1], decoder_channels)
        self.out = nn.Conv2d(decoder_channels[-1], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Decode on F1's grid, reduce to one logit, and bring that to the image's grid."""
        *fine, coarsest = self.encoder(image)
        return upsample(self.out(self.decoder(self.context(coarsest), fine)), image)

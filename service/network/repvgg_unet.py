"""U-Net with AL-Net's RepVGG as its encoder: the AL-Net paper's Baseline (§ 4.5, Tables 5 to 8)."""

from collections.abc import Sequence

from torch import nn

from service.network.repvgg import A1_BLOCKS, WIDTHS, repvgg_encoder
from service.network.unet import UNet

DECODER_CHANNELS = (24, 16, 16, 16)
"""With them the re-parameterised network has the paper's 3.45 M parameters (Table 5)."""


def repvgg_unet(
    *,
    blocks: Sequence[int] = A1_BLOCKS,
    widths: Sequence[int] = WIDTHS,
    decoder_channels: Sequence[int] = DECODER_CHANNELS,
) -> UNet:
    """Return the network: F1 to F4 are its skip connections, and F5 enters the decoder as it is.

    Args:
        blocks: RepVGG blocks per stage.
        widths: channels of F1 to F5.
        decoder_channels: channels of the decoder's levels, from F4's grid to F1's.
    """
    encoder = repvgg_encoder(blocks, widths)
    return UNet(encoder, nn.Identity(), context_channels=encoder.widths[-1], decoder_channels=decoder_channels)

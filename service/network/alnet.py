"""AL-Net: RepVGG encoder, Lite R-ASPP, asymmetric decoder (Du et al., Front. Signal Process. 2:842925, 2022, Fig. 1).

The paper leaves channel numbers and the grid of the low-level fusion out; our reading is in docs/network.md.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU, convolution
from service.network.lraspp import LRASPP
from service.network.repvgg import A1_BLOCKS, Encoder, repvgg_encoder

WIDTHS = (48, 48, 96, 144, 320)
"""Channels of F1 to F5: with them the network has the paper's 3.45 M parameters (Tables 2 to 5)."""


class ALNet(nn.Module):
    """The network as it is trained; `reparameterize` gives the one that is served.

    Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1.

    Args:
        blocks: RepVGG blocks a stage.
        widths: channels of F1 to F5.
        context: channels of Lite R-ASPP.
        decoder: channels of the decoder's two 3×3 convolutions.
        head: channels in which low and high-level features are added.
        fusion_stride: grid on which F1 to F4 are fused: 1 the image's (Eq. 2 read literally), 2 that of F1.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = A1_BLOCKS,
        widths: Sequence[int] = WIDTHS,
        context: int = 64,
        decoder: Sequence[int] = (32, 32),
        head: int = 48,
        fusion_stride: int = 2,
    ) -> None:
        super().__init__()
        if fusion_stride not in (1, 2):
            raise ValueError(f"fusion_stride must be 1 or 2, not {fusion_stride}")
        self.fusion_stride = fusion_stride
        self.encoder = repvgg_encoder(blocks, widths)
        self.context = LRASPP(widths[-1], context)
        self.decoder = nn.Sequential(
            ConvNormReLU(sum(widths[:-1]), decoder[0], 3), ConvNormReLU(decoder[0], decoder[1], 3)
        )
        self.low = nn.Conv2d(decoder[1], head, 1)
        self.high = nn.Conv2d(context, head, 1)
        self.out = nn.Conv2d(head, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eqs. 1 to 3: fuse the low-level features, add the context, reduce to one logit a pixel."""
        *fine, coarsest = self.encoder(image)
        fused = fuse(fine, _size(image) if self.fusion_stride == 1 else _size(fine[0]))
        # The paper's order is up-sampling first. The 1×1s commute with it, and cost a fraction on the coarse grids.
        low = upsample(self.out(self.low(self.decoder(fused))), _size(image))
        high = F.conv2d(self.high(self.context(coarsest)), self.out.weight)
        return low + upsample(upsample(high, _size(fine[-1])), _size(image))

    @torch.no_grad()
    def reparameterize(self) -> "PlainALNet":
        """Return the network that computes the same in evaluation mode with one 1×1 on each path; it shares the parts.

        A 1×1 convolution commutes with bilinear up-sampling (whose weights sum to one at each point), so `low`, `high`
        and `out` run before it, and multiply into one 1×1 for each of the two paths.
        """
        out = self.out.weight.double().flatten(1)
        low_bias = out @ _bias(self.low) + _bias(self.out)
        low = convolution((out @ self.low.weight.double().flatten(1))[..., None, None], low_bias, like=self.low)
        high_kernel = (out @ self.high.weight.double().flatten(1))[..., None, None]
        high = convolution(high_kernel, out @ _bias(self.high), like=self.high)
        return PlainALNet(
            encoder=self.encoder,
            context=self.context,
            decoder=self.decoder,
            low=low,
            high=high,
            fusion_stride=self.fusion_stride,
        )


class PlainALNet(nn.Module):
    """AL-Net re-parameterised (paper, § 3.5): convolutions and ReLUs only. Takes and gives what `ALNet` does."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        context: nn.Module,
        decoder: nn.Sequential,
        low: nn.Conv2d,
        high: nn.Conv2d,
        fusion_stride: int,
    ) -> None:
        super().__init__()
        self.encoder, self.context, self.decoder = encoder, context, decoder
        self.low, self.high, self.fusion_stride = low, high, fusion_stride

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eqs. 1 to 3 with every 1×1 convolution before its up-sampling."""
        *fine, coarsest = self.encoder(image)
        fused = fuse(fine, _size(image) if self.fusion_stride == 1 else _size(fine[0]))
        low = upsample(self.low(self.decoder(fused)), _size(image))
        high = upsample(upsample(self.high(self.context(coarsest)), _size(fine[-1])), _size(image))
        return low + high


def fuse(features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Bring all features to one size, bilinearly, and concatenate their channels (our reading of "+" in Eq. 2)."""
    return torch.cat([upsample(feature, size) for feature in features], 1)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, C, H, W) to `size` bilinearly, pixel centres aligned; nothing is done if it has that size."""
    return x if _size(x) == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("the decoder's 1×1 convolutions have a bias")
    return conv.bias.double()

"""AL-Net: RepVGG encoder, Lite R-ASPP, asymmetric decoder (Du et al., Front. Signal Process. 2:842925, 2022, Fig. 1).

The paper does not give the numbers of channels or the grid of the low-level fusion; our reading is in docs/network.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.aspp import ASPP
from service.network.convolution import ConvNormReLU, convolution
from service.network.efficientnet import KINDS as EFFICIENTNETS
from service.network.efficientnet import efficientnet_encoder
from service.network.lraspp import LRASPP
from service.network.repvgg import A1_BLOCKS, WIDTHS, Encoder, repvgg_encoder
from service.network.resnet import resnet_encoder
from service.network.unet import UNet
from service.network.upsample import upsample

T = TypeVar("T")

HEAD_CHANNELS = 48

CONTEXTS: dict[str, tuple[Callable[[int, int], nn.Module], int]] = {"lr-aspp": (LRASPP, 64), "aspp": (ASPP, 193)}
"""Context extractors, and the channels with which AL-Net, re-parameterised, has the parameters of Table 3."""

DECODERS: dict[str, tuple[int, ...]] = {"a": (32, 32), "u": (24, 24, 16, 16)}
"""Decoders, and their convolutions' channels with which AL-Net, re-parameterised, has the parameters of Table 4."""


def al_net(
    *,
    encoder: str = "repvgg-a1",
    context: str = "lr-aspp",
    decoder: str = "a",
    blocks: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    context_channels: int | None = None,
    decoder_channels: Sequence[int] | None = None,
    head_channels: int = HEAD_CHANNELS,
    fusion_stride: int = 2,
) -> nn.Module:
    """Return AL-Net, or one of the variants of its ablation study (§ 4.4, Tables 2 to 4), as it is trained.

    Args:
        encoder: repvgg-a1, resnet34 (Table 2), or efficientnet-lite0, -lite1 or -lite2 (not in the paper).
        context: lr-aspp, or aspp (Table 3).
        decoder: a, the asymmetric one, or u, that of U-Net (Table 4).
        blocks: RepVGG blocks per stage; None: those of RepVGG-A1.
        widths: channels of RepVGG's F1 to F5; None: `WIDTHS`.
        context_channels: channels of the context extractor; None: as in `CONTEXTS`.
        decoder_channels: of the a-decoder's two convolutions, or the u-decoder's four levels; None: as in `DECODERS`.
        head_channels: channels in which the a-decoder adds low-level and high-level features.
        fusion_stride: grid on which the a-decoder fuses F1 to F4: 1: the image's (Eq. 2 read literally); 2: that of F1.

    Raises:
        ValueError: a value is not one of these, or belongs to a part that is not used.
    """
    features = _encoder(encoder, blocks, widths)
    extractor, usual_channels = _one_of("context", CONTEXTS, context)
    between = usual_channels if context_channels is None else context_channels
    extracted = extractor(features.widths[-1], between)
    usual_decoder = _one_of("decoder", DECODERS, decoder)
    channels = usual_decoder if decoder_channels is None else decoder_channels
    if decoder == "u":
        if fusion_stride != 2:
            raise ValueError("fusion_stride is the a-decoder's; the u-decoder fuses level by level")
        if head_channels != HEAD_CHANNELS:
            raise ValueError("head_channels are the a-decoder's; the u-decoder has none")
        return UNet(features, extracted, context_channels=between, decoder_channels=channels)
    return ALNet(
        features,
        extracted,
        context_channels=between,
        decoder_channels=channels,
        head_channels=head_channels,
        fusion_stride=fusion_stride,
    )


class ALNet(nn.Module):
    """AL-Net as it is trained; `reparameterize` gives the network that is served.

    Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1. The arguments are those of `al_net`,
    but the encoder and the context extractor are modules.
    """

    def __init__(
        self,
        encoder: Encoder,
        context: nn.Module,
        *,
        context_channels: int,
        decoder_channels: Sequence[int],
        head_channels: int,
        fusion_stride: int,
    ) -> None:
        super().__init__()
        if fusion_stride not in {1, 2}:
            raise ValueError(f"fusion_stride must be 1 or 2, not {fusion_stride}")
        if len(encoder.widths) < 2:
            raise ValueError("the a-decoder fuses what the encoder's stages but the last give: it needs two stages")
        if len(decoder_channels) != 2:
            raise ValueError(f"the a-decoder has two decoder_channels, not {len(decoder_channels)}")
        first, second = decoder_channels
        self.fusion_stride = fusion_stride
        self.encoder = encoder
        self.context = context
        self.decoder = nn.Sequential(ConvNormReLU(sum(encoder.widths[:-1]), first, 3), ConvNormReLU(first, second, 3))
        self.low = nn.Conv2d(second, head_channels, 1)
        self.high = nn.Conv2d(context_channels, head_channels, 1)
        self.out = nn.Conv2d(head_channels, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eqs. 1 to 3: fuse the low-level features, add the context, reduce to one logit a pixel."""
        *fine, coarsest = self.encoder(image)
        fused = fuse(fine, image if self.fusion_stride == 1 else fine[0])
        # The paper up-samples first. The 1×1s commute with up-sampling, and cost a fraction on the coarse grids.
        low = upsample(self.out(self.low(self.decoder(fused))), image)
        high = F.conv2d(self.high(self.context(coarsest)), self.out.weight)
        return low + upsample(upsample(high, fine[-1]), image)

    @torch.no_grad()
    def reparameterize(self) -> "PlainALNet":
        """Return the network that computes the same in evaluation mode with one 1×1 on each path; it shares all else.

        A 1×1 convolution commutes with bilinear up-sampling (whose weights sum to one at each point). So `low`, `high`
        and `out` can run before it, and `out` multiplies with `low` and with `high` into one 1×1 each.
        """
        low, high = self._multiplied()
        return PlainALNet(
            encoder=self.encoder,
            context=self.context,
            decoder=self.decoder,
            low=low,
            high=high,
            fusion_stride=self.fusion_stride,
        )

    @torch.no_grad()
    def begin_multiplied(self, low: nn.Conv2d, high: nn.Conv2d) -> None:
        """Let `out` after `low`, and after `high`, compute what these 1×1s of the re-parameterised network do.

        Many weights multiply into the same two 1×1s. The least change is made: `low` and `high` move only along the one
        direction that `out` looks at, no farther than needed, and of `out` only the bias changes.
        """
        out = self.out.weight.double().flatten(1)
        towards = out.T / out.square().sum()
        for path, plain in ((self.low, low), (self.high, high)):
            kernel, wanted = path.weight.double().flatten(1), plain.weight.double().flatten(1)
            path.weight.copy_((kernel + towards @ (wanted - out @ kernel))[..., None, None])
            _bias(path).copy_(towards @ _bias(plain).double())
        nn.init.zeros_(_bias(self.out))

    def _multiplied(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """Return `out` after `low`, and after `high`, as one 1×1 each; the bias of `out` goes with `low`."""
        if self.out.weight.is_meta:  # see `without_values`
            low, high = (nn.Conv2d(path.in_channels, 1, 1, device="meta") for path in (self.low, self.high))
            return low, high
        out = self.out.weight.double().flatten(1)
        low_kernel, high_kernel = (
            (out @ path.weight.double().flatten(1))[..., None, None] for path in (self.low, self.high)
        )
        low = convolution(low_kernel, out @ _bias(self.low).double() + _bias(self.out).double(), like=self.low)
        high = convolution(high_kernel, out @ _bias(self.high).double(), like=self.high)
        return low, high


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
        fused = fuse(fine, image if self.fusion_stride == 1 else fine[0])
        low = upsample(self.low(self.decoder(fused)), image)
        high = upsample(upsample(self.high(self.context(coarsest)), fine[-1]), image)
        return low + high


def fuse(features: Sequence[Tensor], like: Tensor) -> Tensor:
    """Bring all features to the size of `like` and concatenate their channels (our reading of "+" in Eq. 2)."""
    return torch.cat([upsample(feature, like) for feature in features], 1)


def _encoder(kind: str, blocks: Sequence[int] | None, widths: Sequence[int] | None) -> Encoder:
    if kind == "repvgg-a1":
        return repvgg_encoder(A1_BLOCKS if blocks is None else blocks, WIDTHS if widths is None else widths)
    others = ("resnet34", *EFFICIENTNETS)
    if kind not in others:
        raise ValueError(f"encoder must be {' or '.join(('repvgg-a1', *others))}, not {kind!r}")
    if blocks is not None or widths is not None:
        raise ValueError(f"blocks and widths are RepVGG's; {kind} has its own")
    return resnet_encoder("resnet34") if kind == "resnet34" else efficientnet_encoder(kind)


def _one_of(what: str, choices: Mapping[str, T], choice: str) -> T:
    if choice not in choices:
        raise ValueError(f"{what} must be {' or '.join(choices)}, not {choice!r}")
    return choices[choice]


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("the decoder's 1×1 convolutions have a bias")
    return conv.bias

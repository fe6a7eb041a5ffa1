"""CE-Net: a ResNet-34 U-shape with dense atrous convolution and multi-kernel pooling between encoder and decoder.

Gu, Cheng, Fu, Zhou, Hao, Zhao, Zhang, Gao and Liu, IEEE Trans. Med. Imaging 38(10), 2019, arXiv:1903.02740, Fig. 1.
Details that the paper leaves out are as in the authors' published code (Guzaiwang/CE-Net).
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU, fold
from service.network.resnet import resnet_encoder
from service.network.upsample import upsample

POOLS = (2, 3, 5, 6)
"""Sizes and strides of the poolings in RMP (Fig. 4)."""


class CENet(nn.Module):
    """Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1.

    Each up-sampling doubles the size; the result is cut to the size of the features that it joins, which changes
    nothing for multiples of 32. In training form it has 29.00 M parameters; with its batch norms folded, the 28.99 M of
    the AL-Net paper's Table 5. Weights start as PyTorch's defaults; the authors' encoder starts from ImageNet's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet_encoder("resnet34")
        stem, *finer, coarsest = self.encoder.widths
        self.dac = DAC(coarsest)
        self.rmp = RMP(coarsest)
        inputs = (coarsest + len(POOLS), *reversed(finer))
        self.decoder = nn.ModuleList(DecoderBlock(a, b) for a, b in zip(inputs, (*reversed(finer), stem), strict=True))
        self.full = nn.ConvTranspose2d(stem, 32, 4, stride=2, padding=1)
        self.refine = nn.Conv2d(32, 32, 3, padding=1)
        self.out = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Encode, widen the context, and decode, adding F4, F3 and F2 on the way; F1 only gives its size."""
        stem, *finer, coarsest = self.encoder(image)
        x = self.rmp(self.dac(coarsest))
        for decode, skip in zip(self.decoder, reversed(finer), strict=False):
            x = _cut(decode(x), skip) + skip
        x = _cut(self.decoder[-1](x), stem)
        x = F.relu(_cut(self.full(x), image))
        logits: Tensor = self.out(F.relu(self.refine(x)))
        return logits


class DAC(nn.Module):
    """Dense atrous convolution: four cascades of dilated 3×3 convolutions, added to the input (Fig. 3).

    Takes (N, channels, H, W) and gives the same shape. The branches see 3, 7, 9 and 19 pixels; they share their
    convolutions, as in the authors' code, and have no batch norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate1, self.rate3, self.rate5 = (
            nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate) for rate in (1, 3, 5)
        )
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus all branches."""
        return reduce(torch.add, self.branches(x), x)

    def branches(self, x: Tensor) -> list[Tensor]:
        """Return the four cascades, smallest receptive field first."""
        near = self.rate1(x)
        far = self.rate3(near)
        wide = self.project(self.rate3(x)), self.project(far), self.project(self.rate5(far))
        return [F.relu(branch) for branch in (near, *wide)]


class RMP(nn.Module):
    """Residual multi-kernel pooling: the input beside its maxima over four window sizes, one channel each (Fig. 4).

    Takes (N, channels, H, W); gives (N, channels + 4, H, W), the pooled channels first. The four share one 1×1
    convolution, as in the authors' code. A window that is larger than the features shrinks to their size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled channels, brought back to the input's size bilinearly, and the input."""
        pooled = (self.project(F.max_pool2d(x, [min(pool, side) for side in x.shape[2:]])) for pool in POOLS)
        context = [upsample(one, like=x) for one in pooled]
        return torch.cat([*context, x], 1)


class DecoderBlock(nn.Module):
    """1×1 to a quarter of the channels, transposed 3×3 of stride 2, 1×1; each with batch norm and ReLU (Fig. 1).

    Takes (N, in_channels, H, W); gives (N, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        channels = in_channels // 4
        self.narrow = ConvNormReLU(in_channels, channels, 1)
        self.enlarge = TransposedNormReLU(channels)
        self.widen = ConvNormReLU(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features at twice the size."""
        y: Tensor = self.widen(self.enlarge(self.narrow(x)))
        return y


class TransposedNormReLU(nn.Module):
    """A transposed 3×3 convolution of stride 2, batch norm and ReLU. Takes (N, channels, H, W); doubles H and W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, 2 H, 2 W), at least 0."""
        return F.relu(self.norm(self.conv(x)))

    @torch.no_grad()
    def reparameterize(self) -> nn.Sequential:
        """Return the transposed convolution and ReLU that compute the same in evaluation mode."""
        # A transposed kernel is (in, out, 3, 3); `fold` scales the first dimension.
        kernel, bias = fold(self.conv.weight.transpose(0, 1), self.norm)
        channels = kernel.shape[0]
        plain = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
        plain.weight.data = kernel.transpose(0, 1).contiguous().to(self.conv.weight)
        plain.bias = nn.Parameter(bias.to(self.conv.weight))
        return nn.Sequential(plain, nn.ReLU())


def _cut(x: Tensor, like: Tensor) -> Tensor:
    """Cut off the last row and column where `x` is larger than `like` by one."""
    return x[..., : like.shape[2], : like.shape[3]]

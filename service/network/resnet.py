"""ResNet-34 and ResNet-101 as encoders (He et al., CVPR 2016, arXiv:1512.03385, Table 1)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNorm, ConvNormReLU
from service.network.repvgg import Encoder


class BasicBlock(nn.Module):
    """Two batch-normalised 3×3 convolutions with a shortcut around them (Fig. 5, left), then ReLU.

    Takes (N, in_channels, H, W); gives (N, channels, ⌈H / stride⌉, ⌈W / stride⌉). Where the shape changes, the
    shortcut is a 1×1 convolution (option B of § 3.3). Re-parameterised, the convolutions hold their batch norms.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormReLU(in_channels, channels, 3, stride=stride, dilation=dilation),
            ConvNorm(channels, channels, 3, dilation=dilation),
        )
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features, at least 0."""
        return F.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up to four times `channels` (Fig. 5, right); otherwise as `BasicBlock`.

    Takes (N, in_channels, H, W); gives (N, 4 × channels, ⌈H / stride⌉, ⌈W / stride⌉). The 3×3 has the stride, as
    in the networks in use today, not the first 1×1, which would never see three pixels of four.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormReLU(in_channels, channels, 1),
            ConvNormReLU(channels, channels, 3, stride=stride, dilation=dilation),
            ConvNorm(channels, self.expansion * channels, 1),
        )
        self.shortcut = _shortcut(in_channels, self.expansion * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features, at least 0."""
        return F.relu(self.body(x) + self.shortcut(x))


Block = type[BasicBlock] | type[Bottleneck]

KINDS: dict[str, tuple[Block, tuple[int, int, int, int]]] = {
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}
"""The block, and how many of it each stage has (Table 1)."""


def resnet_encoder(kind: Literal["resnet34", "resnet101"], *, output_stride: Literal[16, 32] = 32) -> Encoder:
    """Return the network without its classifier, as five stages.

    F1 is the stem (7×7, batch norm, ReLU; before the max pooling), F2 to F5 are the four residual stages. They lie at
    1/2, 1/4, 1/8, 1/16 and 1/32, with 64, 64, 128, 256 and 512 channels (resnet34) or 64, 256, 512, 1024 and 2048
    (resnet101). With `output_stride` 16 the last stage keeps the size and dilates its 3×3 convolutions by 2 (as DeepLab
    does).
    """
    block, (two, three, four, five) = KINDS[kind]
    growth = block.expansion
    last: dict[str, int] = {"stride": 2} if output_stride == 32 else {"dilation": 2}
    stages = [
        ConvNormReLU(3, 64, 7, stride=2),
        nn.Sequential(nn.MaxPool2d(3, 2, padding=1), _stage(block, two, 64, 64)),
        _stage(block, three, 64 * growth, 128, stride=2),
        _stage(block, four, 128 * growth, 256, stride=2),
        _stage(block, five, 256 * growth, 512, **last),
    ]
    return Encoder(stages, (64, *(channels * growth for channels in (64, 128, 256, 512))))


def _stage(
    block: Block, count: int, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    first = block(in_channels, channels, stride=stride, dilation=dilation)
    width = block.expansion * channels
    return nn.Sequential(first, *(block(width, channels, dilation=dilation) for _ in range(count - 1)))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvNorm(in_channels, out_channels, 1, stride=stride)

"""EfficientNet-Lite as an encoder: EfficientNet (Tan and Le, ICML 2019, arXiv:1905.11946) without squeeze and swish.

The Lite variants (github.com/tensorflow/tpu, models/official/efficientnet/lite) have ReLU6 for swish, no
squeeze-and-excitation, and a stem and head that are not scaled. It is here as a larger network with available ImageNet
weights, from which AL-Net learns (docs/training.md).
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import fold
from service.network.repvgg import Encoder

EPSILON, MOMENTUM = 1e-3, 0.01
"""Settings of the batch norms, as in the published code."""

STEM = 32


@dataclass(frozen=True, slots=True)
class Stage:
    """`blocks` blocks (before scaling) with a depthwise kernel of `size`, giving `channels`; the first has `stride`."""

    blocks: int
    size: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""The stages of EfficientNet-B0 (Table 1)."""

ENDS = (1, 2, 3, 5, 7)
"""How many stages lie before the end of each of F1 to F5."""

KINDS: dict[str, tuple[float, float]] = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
"""The factors of width and depth."""


class SameConvNorm(nn.Module):
    """A convolution padded as TensorFlow's SAME does, and batch norm.

    Takes (N, in_channels, H, W); gives (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). At stride 2 an even size is
    padded at its end only, which PyTorch's own padding cannot express.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, EPSILON, MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution."""
        y: Tensor = self.norm(same_convolution(x, self.conv))
        return y

    @torch.no_grad()
    def reparameterize(self) -> nn.Module:
        """Return the one convolution that computes the same in evaluation mode."""
        kernel, bias = fold(self.conv.weight, self.norm)
        conv = self.conv
        size, stride = conv.kernel_size[0], conv.stride[0]
        plain = SameConv(conv.in_channels, conv.out_channels, size, stride, groups=conv.groups)
        plain.weight.data = kernel.to(conv.weight)
        plain.bias = nn.Parameter(bias.to(conv.weight))
        return plain


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME does."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the base class names it so
        """Return the convolution."""
        return same_convolution(input, self)


def same_convolution(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return ⌈size / stride⌉ pixels a side; both ends share the padding, and an odd pixel goes to the far end."""
    size, stride = conv.kernel_size[0], conv.stride[0]
    if stride == 1:
        return F.conv2d(x, conv.weight, conv.bias, padding=size // 2, groups=conv.groups)
    height, width = (max((-(-length // stride) - 1) * stride + size - length, 0) for length in x.shape[-2:])
    padded = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
    return F.conv2d(padded, conv.weight, conv.bias, stride, groups=conv.groups)


class MBConv(nn.Module):
    """1×1 to more channels, a depthwise k×k, 1×1 to few; the input is added where it has the same shape.

    Takes (N, in_channels, H, W); gives (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉), of either sign.
    """

    def __init__(self, in_channels: int, out_channels: int, *, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.expand = SameConvNorm(in_channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConvNorm(wide, wide, size, stride=stride, groups=wide)
        self.project = SameConvNorm(wide, out_channels, 1)
        self.is_expanded, self.is_residual = expansion > 1, stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        wide = F.relu6(self.expand(x)) if self.is_expanded else x
        y: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.is_residual else y


class Stem(SameConvNorm):
    """The first 3×3 convolution, stride 2, batch norm, ReLU6."""

    def __init__(self) -> None:
        super().__init__(3, STEM, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return 32 channels, 0 to 6."""
        return F.relu6(super().forward(x))

    def reparameterize(self) -> nn.Module:
        """Return the convolution and ReLU6 that compute the same in evaluation mode."""
        return nn.Sequential(super().reparameterize(), nn.ReLU6())


def efficientnet_encoder(kind: str) -> Encoder:
    """Return the network without its head, as five stages at 1/2, 1/4, 1/8, 1/16 and 1/32.

    Of lite0: 16, 24, 40, 112 and 320 channels.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no such EfficientNet: {kind!r}; there are: {', '.join(KINDS)}")
    width, depth = KINDS[kind]
    channels = [STEM, *(_rounded(stage.channels * width) for stage in STAGES)]
    stages = [
        _blocks(stage, channels[index], channels[index + 1], depth if 0 < index < len(STAGES) - 1 else 1.0)
        for index, stage in enumerate(STAGES)
    ]
    features = [
        nn.Sequential(*itertools.chain.from_iterable(stages[start:end]))
        for start, end in itertools.pairwise((0, *ENDS))
    ]
    features[0].insert(0, Stem())
    return Encoder(features, [channels[end] for end in ENDS])


def _blocks(stage: Stage, in_channels: int, out_channels: int, depth: float) -> list[nn.Module]:
    """Return the stage's blocks, `depth` times as many, rounded up; the first has the stride and takes the input."""
    first = MBConv(in_channels, out_channels, size=stage.size, stride=stage.stride, expansion=stage.expansion)
    others = (
        MBConv(out_channels, out_channels, size=stage.size, stride=1, expansion=stage.expansion)
        for _ in range(math.ceil(stage.blocks * depth) - 1)
    )
    return [first, *others]


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not lower by more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest

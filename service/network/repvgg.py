"""RepVGG: many branches to train, one 3×3 convolution to serve (Ding et al., CVPR 2021, arXiv:2101.03697)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import begin_computing, convolution, fold, without_values

A1_BLOCKS = (1, 2, 4, 14, 1)
"""Blocks per stage of RepVGG-A1 (RepVGG paper, Table 2); the AL-Net paper keeps them and reduces the channels."""

WIDTHS = (48, 48, 96, 144, 320)
"""The reduced channels of F1 to F5: with them AL-Net has the paper's 3.45 M parameters (Tables 2 to 5)."""


MOST_BLOCKS = 256
"""Most blocks in all of an encoder: nine times those of the largest published RepVGG. Each takes time to make."""


class RepVGGBlock(nn.Module):
    """3×3 + 1×1 + identity, each batch-normalised, summed, then ReLU (RepVGG paper, Fig. 2b; AL-Net paper, Fig. 2).

    Takes (N, in_channels, H, W); gives (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). The identity branch exists only
    at stride 1 and with as many channels out as in.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv3x3 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm3x3 = nn.BatchNorm2d(out_channels)
        self.conv1x1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm1x1 = nn.BatchNorm2d(out_channels)
        self.identity = nn.BatchNorm2d(in_channels) if stride == 1 and in_channels == out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block, branch by branch."""
        # A strided 1×1 is a plain one on every stride-th pixel. It is written that way because, on the CPU,
        # PyTorch 2.13 corrupts memory in the weight gradient of a strided 1×1 whose channels-last input has fewer than
        # 16 channels.
        y: Tensor = self.norm3x3(self.conv3x3(x)) + self.norm1x1(self.conv1x1(x[..., :: self.stride, :: self.stride]))
        if self.identity is not None:
            y = y + self.identity(x)
        return F.relu(y)

    @torch.no_grad()
    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Return the 3×3 kernel and bias (float64) that compute all branches at once (RepVGG paper, § 3.3)."""
        if self.conv3x3.weight.is_meta:
            return without_values(self.conv3x3.weight)
        branches = [
            fold(self.conv3x3.weight, self.norm3x3),
            fold(F.pad(self.conv1x1.weight, (1, 1, 1, 1)), self.norm1x1),
        ]
        if self.identity is not None:
            branches.append(fold(_unchanged(self.conv3x3.weight), self.identity))
        kernel = torch.stack([kernel for kernel, _ in branches]).sum(0)
        bias = torch.stack([bias for _, bias in branches]).sum(0)
        return kernel, bias

    @torch.no_grad()
    def reparameterize(self) -> nn.Sequential:
        """Return the one 3×3 convolution and ReLU that compute the same in evaluation mode."""
        return nn.Sequential(convolution(*self.kernel_and_bias(), like=self.conv3x3), nn.ReLU())

    @torch.no_grad()
    def begin_plain(self, kernel: Tensor, bias: Tensor) -> None:
        """Let the 3×3 branch alone compute a convolution of `kernel` and `bias` in evaluation mode; the others give 0.

        This makes what `reparameterize` gives trainable again.

        Raises:
            RuntimeError: `kernel` or `bias` has another shape.
        """
        for norm in (self.norm1x1, self.identity):
            if norm is not None:
                norm.reset_parameters()
                nn.init.zeros_(norm.weight)
        begin_computing(self.conv3x3, self.norm3x3, kernel, bias)

    @property
    def is_plain(self) -> bool:
        """Whether all branches but the 3×3 give 0."""
        others = [self.norm1x1] if self.identity is None else [self.norm1x1, self.identity]
        return not any(bool(norm.weight.any()) or bool(norm.bias.any()) for norm in others)


class Encoder(nn.Module):
    """Stages in a row; gives the output of every stage.

    Takes (N, 3, H, W); gives F1, F2, … of `widths` channels. With stages of stride 2, as here, F1 to F5 have 1/2, 1/4,
    1/8, 1/16 and 1/32 of the image's size (rounded up).
    """

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.widths = tuple(widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of all stages, finest first."""
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


def repvgg_encoder(blocks: Sequence[int], widths: Sequence[int]) -> Encoder:
    """Return a RepVGG encoder: `blocks[i]` blocks of `widths[i]` channels in stage i, its first block with stride 2.

    Raises:
        ValueError: `blocks` and `widths` differ in length, or there are more than `MOST_BLOCKS` blocks in all.
    """
    if len(blocks) != len(widths):
        raise ValueError(f"blocks and widths are one of each a stage, not {len(blocks)} and {len(widths)}")
    if sum(blocks) > MOST_BLOCKS:
        raise ValueError(f"{sum(blocks)} blocks are more than {MOST_BLOCKS}")
    stages = []
    channels = 3
    for count, width in zip(blocks, widths, strict=True):
        first = RepVGGBlock(channels, width, stride=2)
        stages.append(nn.Sequential(first, *(RepVGGBlock(width, width) for _ in range(count - 1))))
        channels = width
    return Encoder(stages, widths)


def _unchanged(like: Tensor) -> Tensor:
    """Return the 3×3 kernel, of the shape of `like`, that leaves each channel as it is."""
    each = torch.eye(like.shape[0], dtype=like.dtype, device=like.device)
    return F.pad(each[..., None, None], (1, 1, 1, 1))

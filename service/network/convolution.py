"""Convolutions followed by a batch norm, and the algebra that folds the norm away."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRAINED_SIZE = 0.1
"""Root mean square of the weights of a channel that a batch norm follows, after long training with AdamW.

Steps lengthen such weights and decay shortens them, to a balance near √(learning rate / (2 × decay)) (Kosson, 2024).
"""


class ConvNorm(nn.Module):
    """A convolution of odd `size`, padded to keep the image's size at stride 1, then batch norm.

    Takes (N, in_channels, H, W); gives (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, padding, dilation, groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution."""
        y: Tensor = self.norm(self.conv(x))
        return y

    @torch.no_grad()
    def reparameterize(self) -> nn.Module:
        """Return one convolution that computes the same in evaluation mode."""
        return convolution(*fold(self.conv.weight, self.norm), like=self.conv)


class ConvNormReLU(ConvNorm):
    """`ConvNorm`, then ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution, at least 0."""
        return F.relu(super().forward(x))

    def reparameterize(self) -> nn.Module:
        """Return the convolution and ReLU that compute the same in evaluation mode."""
        return nn.Sequential(super().reparameterize(), nn.ReLU())


def fold(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation into the kernel before it; return (kernel, bias), both float64.

    They are float64 so that summing branches adds no rounding.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    if kernel.is_meta:
        return without_values(kernel)
    scale, shift = scale_and_shift(norm)
    return kernel.double() * scale.view(-1, 1, 1, 1), shift


def without_values(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return a kernel of the same shape and a bias for it, float64, on the meta device, where tensors have no values.

    Nothing is computed: PyTorch would import its compiler and SymPy for it, 800 modules, a tenth of a server's start.
    """
    kernel = torch.empty(kernel.shape, dtype=torch.float64, device="meta")
    return kernel, kernel[:, 0, 0, 0]


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a batch norm in evaluation mode multiplies each channel by, and what it then adds; both float64.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


@torch.no_grad()
def begin_computing(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d, kernel: Tensor, bias: Tensor) -> None:
    """Let a convolution and its batch norm compute in evaluation mode what one convolution of `kernel` and `bias` does.

    Each channel's weights become as large as in a network after long training; the norm undoes that. A folded kernel is
    up to forty times smaller. Adam's steps are as long for small weights as for large ones, and within fifty of them
    would erase what such a kernel holds.

    Raises:
        RuntimeError: `kernel` or `bias` has another shape.
    """
    conv.weight.copy_(kernel)
    channels = conv.weight.transpose(0, 1) if isinstance(conv, nn.ConvTranspose2d) else conv.weight
    size = channels.square().mean((1, 2, 3)).sqrt()
    times = torch.where(size > 0, TRAINED_SIZE / size, 1)
    channels.mul_(times[:, None, None, None])
    norm.reset_parameters()
    norm.weight.copy_(math.sqrt(1 + norm.eps) / times)  # for a running variance of 1
    norm.bias.copy_(bias)


def convolution(kernel: Tensor, bias: Tensor, *, like: nn.Conv2d) -> nn.Conv2d:
    """Return a plain convolution of the odd-sized `kernel` and `bias`, padded so that stride 1 keeps the image's size.

    Stride, dilation, groups, dtype and device are those of `like`.
    """
    out_channels, in_channels, height, width = kernel.shape
    stride, dilation = (like.stride[0], like.stride[1]), (like.dilation[0], like.dilation[1])
    padding = (dilation[0] * (height // 2), dilation[1] * (width // 2))
    plain = nn.Conv2d(in_channels * like.groups, out_channels, (height, width), stride, padding, dilation, like.groups)
    plain.weight.data = kernel.to(like.weight)
    plain.bias = nn.Parameter(bias.to(like.weight))
    return plain

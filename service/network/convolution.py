"""Convolutions with a batch norm behind them, and the algebra that folds the norm away."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormReLU(nn.Module):
    """A convolution of odd `size` (stride 1, size kept), batch norm and ReLU. Takes (N, C_in, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, H, W), at least 0."""
        return F.relu(self.norm(self.conv(x)))

    @torch.no_grad()
    def reparameterize(self) -> nn.Sequential:
        """Return the convolution and ReLU that compute the same in evaluation mode."""
        return nn.Sequential(convolution(*fold(self.conv.weight, self.norm), like=self.conv), nn.ReLU())


def fold(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation into the kernel before it; return (kernel, bias), both float64.

    Float64, so that summing the branches adds no rounding of its own.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return kernel.double() * scale.view(-1, 1, 1, 1), norm.bias.double() - norm.running_mean.double() * scale


def convolution(kernel: Tensor, bias: Tensor, *, like: nn.Conv2d) -> nn.Conv2d:
    """Return a plain convolution of `kernel` and `bias`, size kept, with the stride, dtype and device of `like`."""
    out_channels, in_channels, height, width = kernel.shape
    stride = (like.stride[0], like.stride[1])
    plain = nn.Conv2d(in_channels, out_channels, (height, width), stride, (height // 2, width // 2))
    plain.weight.data = kernel.to(like.weight)
    plain.bias = nn.Parameter(bias.to(like.weight))
    return plain

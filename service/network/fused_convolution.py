"""The network as cuDNN runs it best: a convolution, its bias and its ReLU in one kernel instead of three.

PyTorch writes a convolution's output, then reads and writes it once more for the bias and again for the ReLU. On the
fine grids that takes as long as the convolution itself.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusedConvReLU(nn.Module):
    """max(0, conv(x)). Takes and gives what the convolution does; on a CPU, without cuDNN, in two steps."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and the ReLU."""
        if not x.is_cuda:
            return F.relu(self.conv(x))
        conv = self.conv
        y: Tensor = torch.cudnn_convolution_relu(
            x,
            conv.weight,
            conv.bias,
            _both(conv.stride),
            _both(conv.padding),
            _both(conv.dilation),
            conv.groups,
        )
        return y


def fuse_convolutions(network: nn.Module) -> nn.Module:
    """Return a copy of the re-parameterised `network` with each convolution and the ReLU behind it in one module."""
    return _fused(copy.deepcopy(network))


def _fused(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Sequential) and len(module) == 2:
        conv, relu = module
        if isinstance(conv, nn.Conv2d) and isinstance(relu, nn.ReLU) and conv.padding_mode == "zeros":
            return FusedConvReLU(conv)
    for name, child in module.named_children():
        setattr(module, name, _fused(child))
    return module


def _both(value: object) -> list[int]:
    if not isinstance(value, tuple):
        raise TypeError(f"a convolution with {value!r} has no numbers for rows and columns")
    return [int(part) for part in value]

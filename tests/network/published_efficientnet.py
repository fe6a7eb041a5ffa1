"""EfficientNet-Lite as its converted code publishes it, written here once more as functions of a state dict."""

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]

# (expansion, kernel, stride, channels in, channels out) of each block, copied out of the published checkpoints' shapes.
LITE0 = [
    (1, 3, 1, 32, 16),
    (6, 3, 2, 16, 24),
    (6, 3, 1, 24, 24),
    (6, 5, 2, 24, 40),
    (6, 5, 1, 40, 40),
    (6, 3, 2, 40, 80),
    *[(6, 3, 1, 80, 80)] * 2,
    (6, 5, 1, 80, 112),
    *[(6, 5, 1, 112, 112)] * 2,
    (6, 5, 2, 112, 192),
    *[(6, 5, 1, 192, 192)] * 3,
    (6, 3, 1, 192, 320),
]
LITE2 = [
    (1, 3, 1, 32, 16),
    (6, 3, 2, 16, 24),
    *[(6, 3, 1, 24, 24)] * 2,
    (6, 5, 2, 24, 48),
    *[(6, 5, 1, 48, 48)] * 2,
    (6, 3, 2, 48, 88),
    *[(6, 3, 1, 88, 88)] * 3,
    (6, 5, 1, 88, 120),
    *[(6, 5, 1, 120, 120)] * 3,
    (6, 5, 2, 120, 208),
    *[(6, 5, 1, 208, 208)] * 4,
    (6, 3, 1, 208, 352),
]
Blocks = list[tuple[int, int, int, int, int]]


def random_weights(blocks: Blocks) -> Weights:
    """Return a state dict of the published names, as if it were trained, its head included."""
    state = _conv("_conv_stem", 32, 3, 3) | _norm("_bn0", 32)
    for number, (expansion, size, _, before, after) in enumerate(blocks):
        name, wide = f"_blocks.{number}", expansion * before
        if expansion > 1:
            state |= _conv(f"{name}._expand_conv", wide, before, 1) | _norm(f"{name}._bn0", wide)
        state |= _conv(f"{name}._depthwise_conv", wide, 1, size) | _norm(f"{name}._bn1", wide)
        state |= _conv(f"{name}._project_conv", after, wide, 1) | _norm(f"{name}._bn2", after)
    return state | _conv("_conv_head", 8, blocks[-1][-1], 1) | _norm("_bn1", 8) | {"_fc.weight": torch.zeros(3, 8)}


def features(weights: Weights, blocks: Blocks, image: Tensor) -> list[Tensor]:
    """Return what comes out of the stem and of each block, for an image (N, 3, H, W)."""
    found = [_convolve(weights, "_conv_stem", "_bn0", image, stride=2).clamp(0, 6)]
    for number, (expansion, _, stride, before, after) in enumerate(blocks):
        name, x = f"_blocks.{number}.", found[-1]
        y = x if expansion == 1 else _convolve(weights, f"{name}_expand_conv", f"{name}_bn0", x).clamp(0, 6)
        y = _convolve(weights, f"{name}_depthwise_conv", f"{name}_bn1", y, stride=stride, groups=y.shape[1]).clamp(0, 6)
        y = _convolve(weights, f"{name}_project_conv", f"{name}_bn2", y)
        found.append(x + y if stride == 1 and before == after else y)
    return found


def _convolve(weights: Weights, conv: str, norm: str, x: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's SAME: as many pixels as the stride leaves, the odd one of the padding at the end."""
    kernel = weights[f"{conv}.weight"]
    amounts = [max((-(-n // stride) - 1) * stride + kernel.shape[-1] - n, 0) for n in x.shape[-2:]]
    (top, bottom), (left, right) = ((amount // 2, amount - amount // 2) for amount in amounts)
    y = F.conv2d(F.pad(x, (left, right, top, bottom)), kernel.to(x), stride=stride, groups=groups)
    mean, variance, weight, bias = (
        weights[f"{norm}.{part}"].to(x).view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (y - mean) / (variance + 1e-3).sqrt() * weight + bias


def _conv(name: str, out: int, into: int, size: int) -> Weights:
    return {f"{name}.weight": torch.randn(out, into, size, size) / (into * size * size) ** 0.5}


def _norm(name: str, channels: int) -> Weights:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": 0.2 * torch.randn(channels),
        f"{name}.running_mean": 0.2 * torch.randn(channels),
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }

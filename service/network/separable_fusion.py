"""The a-decoder's first convolution for GPUs: the rows, then the columns, of coarse features are up-sampled.

It computes what `service.network.coarse_fusion` does, arranged for tensor cores and for features that lie channels
last, so that nothing is ever copied into another order. Let U be the up-sampling of rows, W_j the columns of the 3×3
kernel as 3×1 convolutions, and A_j the up-sampling of columns shifted by the tap j. The share of a coarse feature x is
exactly

    y = Σ over j of (W_j ∗ (U · x)) · A_jᵀ

This is a product, a 3×1 convolution, and a product that is added to the share before it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.coarse_fusion import share_of
from service.network.upsampling_matrices import Size, shifted_upsampling, upsampling

TAPS = 3


class SeparableFusion(nn.Module):
    """Computes `relu(conv(fuse(features, like)))` for features of fixed `sizes` and a `like` of the size `fine`.

    `conv` is a 3×3 convolution of padding 1 with a bias. Features that are channels last already are never copied.
    """

    def __init__(self, conv: nn.Conv2d, channels: Sequence[int], sizes: Sequence[Size], fine: Size) -> None:
        super().__init__()
        shares = torch.split(conv.weight.detach(), list(channels), 1)
        n_direct = int(sizes[0] == fine)
        self.direct = share_of(shares[0], conv.bias) if n_direct else None
        self.bias = None if n_direct else conv.bias
        self.coarse = nn.ModuleList(
            SeparableShare(share, size, fine) for share, size in zip(shares[n_direct:], sizes[n_direct:], strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return (N, out, H, W), channels last, for features of (N, C, h, w), the finest first.

        Raises:
            ValueError: no feature is as fine as the result, and there are no other features or `conv` has no bias.
        """
        fused: Tensor | None = None
        coarse = features if self.direct is None else features[1:]
        for share, feature in zip(reversed(self.coarse), reversed(coarse), strict=True):
            fused = share(feature, fused)
        if self.direct is not None:
            return _added(self.direct, features[0], fused)
        if fused is None or self.bias is None:
            raise ValueError("the convolution has neither features nor a bias")
        return F.relu(fused + self.bias.view(1, -1, 1, 1))


class SeparableShare(nn.Module):
    """The share of one coarse feature, of size `coarse`, in the convolution on the grid `fine`.

    Takes (N, C, h, w), and (N, out, H, W) or None that the share is added to; gives (N, out, H, W), channels last.
    """

    rows: Tensor
    across: Tensor

    def __init__(self, weight: Tensor, coarse: Size, fine: Size) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.outputs, self.fine = outputs, fine
        self.taps = nn.Conv2d(inputs, TAPS * outputs, (TAPS, 1), padding=(1, 0), bias=False)
        self.taps.weight.data = weight.permute(3, 0, 1, 2).reshape(TAPS * outputs, inputs, TAPS, 1).contiguous()
        by_column = shifted_upsampling(coarse[1], fine[1]).view(fine[1], TAPS, coarse[1]).transpose(1, 2)
        self.register_buffer("rows", upsampling(coarse[0], fine[0]).to(weight), persistent=False)
        self.register_buffer("across", by_column.reshape(fine[1], -1).to(weight), persistent=False)

    def forward(self, x: Tensor, onto: Tensor | None) -> Tensor:
        """Compute the share, and add it to `onto`."""
        number, (height, width) = x.shape[0], self.fine
        columns: Tensor = self.taps(upsampled_rows(x, self.rows))
        operands = columns.permute(0, 2, 3, 1).reshape(number * height, -1, self.outputs)
        across = self.across.expand(number * height, -1, -1)
        if onto is None:
            share = torch.bmm(across, operands)
        else:
            before = onto.permute(0, 2, 3, 1).reshape(number * height, width, self.outputs)
            share = torch.baddbmm(before, across, operands)
        return share.view(number, height, width, self.outputs).permute(0, 3, 1, 2)


def upsampled_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Return (N, C, H, w), channels last, for (N, C, h, w) and the matrix (H, h) that up-samples a column."""
    number, channels, height, width = x.shape
    lines = x.permute(0, 2, 3, 1).reshape(number, height, width * channels)
    product = torch.bmm(rows.expand(number, -1, -1), lines)
    return product.view(number, -1, width, channels).permute(0, 3, 1, 2)


def _added(conv: nn.Conv2d, x: Tensor, onto: Tensor | None) -> Tensor:
    """Return max(0, conv(x) + onto); with cuDNN, in one kernel."""
    if onto is None:
        return F.relu(conv(x))
    if not x.is_cuda:
        return F.relu(conv(x) + onto)
    both = [1, 1]
    added: Tensor = torch.cudnn_convolution_add_relu(x, conv.weight, onto, 1.0, conv.bias, both, both, both, 1)
    return added

"""Bilinear up-sampling between known sizes as matrix products, where that is faster than resampling."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]
"""Height and width."""


def upsampling(coarse: int, fine: int) -> Tensor:
    """Return U, float64 (fine, coarse): U @ line is `line` up-sampled as `service.network.upsample` does it."""
    lines = torch.eye(coarse, dtype=torch.float64)[None]
    return F.interpolate(lines, fine, mode="linear", align_corners=False)[0].T


def shifted_upsampling(coarse: int, fine: int) -> Tensor:
    """Return [U_0 U_1 U_2], float64 (fine, 3 · coarse): up-sampling, then a shift by −1, 0, 1.

    Row y of U_t holds the weights of point y + t − 1 of the up-sampled line, or zeros if that lies outside it.
    """
    padded = F.pad(upsampling(coarse, fine), (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + fine] for tap in range(3)], 1)


class UpsampledSum(nn.Module):
    """The sum of maps of several `sizes`, each up-sampled to `grid`, in `dtype`: one product each, then one for all."""

    across: Tensor

    def __init__(self, sizes: Sequence[Size], grid: Size, dtype: torch.dtype) -> None:
        super().__init__()
        across = torch.cat([upsampling(width, grid[1]).T for _, width in sizes])
        self.register_buffer("across", across.to(dtype), persistent=False)
        self.columns = nn.ModuleList(_Columns(height, grid[0], dtype) for height, _ in sizes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (N, C, H, W) for maps of (N, C, h, w), one for each of the sizes."""
        columns = [up_sampled(map_) for up_sampled, map_ in zip(self.columns, maps, strict=True)]
        return torch.cat(columns, 2).transpose(2, 3) @ self.across


class _Columns(nn.Module):
    """Up-samples columns: takes (N, C, h, w), gives (N, C, w, H)."""

    down: Tensor

    def __init__(self, coarse: int, fine: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("down", upsampling(coarse, fine).T.to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3) @ self.down

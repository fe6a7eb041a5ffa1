"""U-Net++: a U-Net whose skips are filled with nested, densely connected blocks.

Zhou, Siddiquee, Tajbakhsh and Liang, IEEE Trans. Med. Imaging 39(6), 2020, arXiv:1912.05074, Fig. 1 and Eq. 1 (first in
DLMIA 2018, arXiv:1807.10165).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.network.convolution import ConvNormReLU
from service.network.upsample import upsample

WIDTHS = (32, 64, 128, 256, 512)
"""Channels of the rows, finest first, as in the paper."""


class UNetPlusPlus(nn.Module):
    """Nodes X(i, j), row i at 1/2ⁱ of the size: each sees all nodes before it in its row, and the one below.

    Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1: poolings round up. The only
    output is that of X(0, 4): no deep supervision, since all networks are trained with one loss. In training form it
    has the 9.16 M parameters of the AL-Net paper's Table 5. Weights start as PyTorch's defaults (the authors' as He's).

    Args:
        widths: channels of the rows, finest first; one for each row.
    """

    def __init__(self, *, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.rows = len(widths)
        self.nodes = nn.ModuleDict()
        for i, width in enumerate(widths):
            above = widths[i - 1] if i else 3
            self.nodes[_name(i, 0)] = _block(above, width)
            for j in range(1, self.rows - i):
                self.nodes[_name(i, j)] = _block(j * width + widths[i + 1], width)
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute Eq. 1 column by column; the last node of the finest row gives the logits."""
        rows = [[self.nodes[_name(0, 0)](image)]]
        for i in range(1, self.rows):
            rows.append([self.nodes[_name(i, 0)](F.max_pool2d(rows[-1][0], 2, ceil_mode=True))])
        for j in range(1, self.rows):
            for i, row in enumerate(rows[: self.rows - j]):
                below = upsample(rows[i + 1][j - 1], like=row[0])
                row.append(self.nodes[_name(i, j)](torch.cat([*row, below], 1)))
        logits: Tensor = self.out(rows[0][-1])
        return logits


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the H of Eq. 1: two 3×3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(ConvNormReLU(in_channels, out_channels, 3), ConvNormReLU(out_channels, out_channels, 3))


def _name(i: int, j: int) -> str:
    return f"{i}_{j}"

"""Pixels to network input: one normalisation for training and for serving."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x / 255 − mean) / std, channel by channel. Takes (N, 3, H, W) of 0 to 255, uint8 or float; gives `dtype`.

    Computed as one multiplication and one addition in float32, then rounded once to `dtype`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        spread = torch.tensor(std, dtype=torch.float64).view(1, 3, 1, 1)
        centre = torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (255 * spread)).float(), persistent=False)
        self.register_buffer("shift", (-centre / spread).float(), persistent=False)
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalised pixels: on images like the training images, of mean about 0 and spread about 1."""
        return torch.addcmul(self.shift, pixels.to(torch.float32), self.scale).to(self.dtype)

"""Bilinear up-sampling, as every decoder here does it."""

import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Resize (N, C, h, w) to the height and width of `like`, bilinearly (`align_corners=False`).

    Nothing is done if `x` has that size already. The weights of each point sum to one, so that a 1×1 convolution, bias
    included, may be moved from behind the up-sampling to before it.
    """
    size = like.shape[2:]
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)

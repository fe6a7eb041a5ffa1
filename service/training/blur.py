"""Random Gaussian blur: MONAI's, without the dark rim that it gives every view."""

import math
import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.intensity.array import RandGaussianSmooth
    from monai.transforms.intensity.dictionary import RandGaussianSmoothd

LEAST_PX = 0.1
"""The least standard deviation that is drawn."""

REACH = 4
"""Standard deviations after which MONAI's kernels end."""


def random_blur(largest_px: float) -> RandGaussianSmoothd:
    """Return the transform of an {"image"} item, float (3, h, w); its standard deviations are up to `largest_px`."""
    sigma = (LEAST_PX, largest_px)
    changes = RandGaussianSmoothd(keys="image", prob=0.2, sigma_x=sigma, sigma_y=sigma)
    changes.rand_smooth = _Smooth(sigma_x=sigma, sigma_y=sigma, prob=1.0)
    return changes


class _Smooth(RandGaussianSmooth):
    """Blurs as if the image went on beyond its edges.

    MONAI takes what lies beyond for black: a uniform image comes out half as bright along the edges and a quarter as
    bright in the corners, which no camera does.
    """

    def __call__(self, img: NDArray[Any] | Tensor, randomize: bool = True) -> Tensor:
        """Return the blurred image, of the same size."""
        margin = math.ceil(REACH * max(self.sigma_x[1], self.sigma_y[1])) + 1
        wider = functional.pad(torch.as_tensor(img).as_subclass(Tensor), [margin] * 4, mode="replicate")
        blurred = torch.as_tensor(super().__call__(wider, randomize))
        return blurred[:, margin:-margin, margin:-margin].contiguous()

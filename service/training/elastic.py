"""Random elastic deformation: MONAI's, without the waves that its way of enlarging a grid puts into every view."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.croppad.array import CenterSpatialCrop
    from monai.transforms.spatial.array import RandDeformGrid
    from monai.transforms.spatial.dictionary import Rand2DElasticd
    from monai.transforms.utils import create_control_grid, create_grid

SPACING_PX = (32, 32)
"""Distance between the points that an elastic deformation moves."""


def elastic(largest_px: float, **place: Any) -> Rand2DElasticd:
    """Return the transform that moves points by offsets whose σ is up to `largest_px`; `place`: its other arguments."""
    changes = Rand2DElasticd(spacing=(1, 1), magnitude_range=(0, largest_px), **place)
    changes.rand_2d_elastic.deform_grid = _Grid(largest_px)
    return changes


class _Grid(RandDeformGrid):
    """A grid of all pixels, moved by smooth offsets.

    MONAI enlarges the coordinates of the points themselves, by a cubic convolution (PyTorch's, a = -0.75) that bends
    even a straight line: without any offset it moves pixels by up to 1.5 px of 32. Here only the offsets are enlarged,
    which have no slope that it could bend.
    """

    def __init__(self, largest_px: float) -> None:
        super().__init__(spacing=(1, 1), magnitude_range=(0, largest_px))
        self._points = RandDeformGrid(spacing=SPACING_PX, magnitude_range=(0, largest_px))

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "_Grid":
        """See MONAI's Randomizable."""
        self._points.set_random_state(seed, state)
        return self

    def randomize(self, grid_size: Sequence[int]) -> None:
        """Draw nothing yet: `__call__` draws the points."""

    def __call__(self, spatial_size: Sequence[int]) -> Tensor:
        """Return the grid's homogeneous coordinates, (3, *spatial_size)."""
        points = self._points(spatial_size)
        offsets = points - create_control_grid(spatial_size, SPACING_PX, device=self.device, backend="torch")
        smooth = functional.interpolate(offsets[None], scale_factor=SPACING_PX, mode="bicubic")[0]
        pixels = create_grid(spatial_size, device=self.device, backend="torch")
        return torch.as_tensor(pixels) + CenterSpatialCrop(spatial_size)(smooth)

"""Random smooth shading: MONAI's, with the axis that it leaves out."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.intensity.array import RandBiasField
    from monai.transforms.intensity.dictionary import RandBiasFieldd

DEGREE = 2
"""The degree of the Legendre polynomial in a shading's exponent, which has six coefficients."""


def random_shading(largest: float) -> RandBiasFieldd:
    """Return the transform of an {"image"} item, float (3, h, w); each coefficient is from -`largest` to `largest`."""
    spread = (-largest, largest)
    changes = RandBiasFieldd(keys="image", prob=0.3, degree=DEGREE, coeff_range=spread)
    changes.rand_bias_field = _Field(degree=DEGREE, coeff_range=spread, prob=1.0)
    return changes


class _Field(RandBiasField):
    """A polynomial that treats rows and columns alike: of degree 2, it consists of 1, x, x², y, xy and y².

    For images MONAI takes 1, y, xy, y², xy² and x²y² instead, x across and y down: the lower triangle of the square of
    coefficients, not what lies above its other diagonal. With that, no view was lighter on its left than on its right.
    """

    def _generate_random_field(
        self, spatial_shape: Sequence[int], degree: int, coeff: Sequence[float]
    ) -> NDArray[np.floating]:
        """Return the exponent of an image's shading, (h, w), from its coefficients."""
        of_each = np.arange(degree + 1)
        coefficients = np.zeros((degree + 1, degree + 1))
        coefficients[of_each[:, None] + of_each <= degree] = coeff
        down, across = (np.linspace(-1, 1, side) for side in spatial_shape)
        exponent: NDArray[np.floating] = np.polynomial.legendre.leggrid2d(down, across, coefficients)
        return exponent

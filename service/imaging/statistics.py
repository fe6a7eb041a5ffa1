"""Is this upload like the training images? Cheap descriptors of colour and texture, and a distance.

A network answers whatever it is shown. These descriptors know an image of another kind (a skin photograph sent to the
retina model), so that the answer can carry a warning; they do not judge quality.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.placement import Image

FEATURES: tuple[str, ...] = (
    "red_mean",
    "green_mean",
    "blue_mean",
    "luma_spread",
    "red_green_mean",
    "green_blue_mean",
    "chroma_spread",
    "dark_fraction",
    "fine_texture",
)
SCALE_FLOOR = np.array([0.10, 0.08, 0.08, 0.06, 0.08, 0.06, 0.04, 0.15, 0.02])
SIDE = 64


def features(image: Image) -> NDArray[np.float64]:
    """Return float64 (len(FEATURES),) of uint8 (H, W, 3); every feature is in fractions of full scale."""
    reduced = PillowImage.fromarray(image).resize((SIDE, SIDE), PillowImage.Resampling.BILINEAR, reducing_gap=1.0)
    rgb = np.asarray(reduced, np.float64) / 255
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = rgb.mean(axis=2)
    texture = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    return np.array(
        [
            red.mean(),
            green.mean(),
            blue.mean(),
            luma.std(),
            (red - green).mean(),
            (green - blue).mean(),
            (red - blue).std(),
            (luma < 0.1).mean(),
            texture,
        ]
    )


@dataclass(frozen=True)
class Likeness:
    """What the training images look like: an image further off than `limit` is unlike them.

    `mean` and `scale` are float64 (len(FEATURES),); `scale` is positive.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    limit: float

    def distance(self, image: Image) -> float:
        """Return how far uint8 (H, W, 3) lies from the training images: the root mean square of scaled differences."""
        return float(_distances(features(image)[None], self.mean, self.scale)[0])

    @classmethod
    def fit(cls, matrix: NDArray[np.float64]) -> Self:
        """Learn from the training images' features, float64 (n, len(FEATURES)), n at least 1."""
        mean, scale = _centre(matrix)
        limit = 1.5 * float(np.quantile(_distances(matrix, mean, scale), 0.99)) + 0.5
        return cls(mean, scale, limit)


def _centre(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the spread of each feature, no spread below its floor."""
    return matrix.mean(axis=0), np.maximum(matrix.std(axis=0), SCALE_FLOOR)


def _distances(
    matrix: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance of each row."""
    distances: NDArray[np.float64] = np.sqrt(np.square((matrix - mean) / scale).mean(axis=1))
    return distances

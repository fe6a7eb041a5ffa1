"""Is this upload like the training images? Descriptors of colour, texture and layout, and a distance from the usual.

A network gives an answer for any image. These descriptors detect an image of another kind (a skin photograph sent to
the retina model), so that the answer can carry a warning. They judge neither quality nor whether the answer is right.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.placement import Image, thinned

_FLOORS: dict[str, float] = {
    "red_share": 0.06,
    "blue_share": 0.06,
    "log_colour_spread": 0.40,
    "log_texture": 0.35,
    "radial_trend": 0.25,
    "brightness": 0.15,
    "contrast": 0.12,
    "dark_fraction": 0.15,
}
"""Each feature and the least spread that it is given: other cameras and clinics differ by about that much, however
alike a handful of training images are."""

FEATURES: tuple[str, ...] = tuple(_FLOORS)
"""The features' names, in order.

Some are of the lit pixels only (brightness at least 0.1), so that a dark surround does not count as a colour: the red
and blue shares of the mean colour, the brightness, and, relative to the brightness, the log of the colour's spread, the
log of the mean step between neighbours, and the standard deviation. Two are of the whole image: the correlation of
brightness with the distance from the centre, and the fraction that is not lit.
"""

_SIDE = 64
_DARK = 0.1
_LEAST_LIMIT = 1.5

_Plane = NDArray[np.float64]


def _standard_distance() -> _Plane:
    """Return the distance of each pixel of (64, 64) from the centre, of mean 0 and standard deviation 1."""
    across = np.linspace(-1, 1, _SIDE)
    distance = np.hypot(across[:, None], across)
    standard: _Plane = (distance - distance.mean()) / distance.std()
    return standard


_DISTANCE = _standard_distance()


def features(image: Image) -> NDArray[np.float64]:
    """Return float64 (len(FEATURES),) of uint8 (H, W, 3), RGB; all finite, whatever the image."""
    planes = _reduced(image)
    brightness: _Plane = planes.mean(axis=0)
    lit = brightness >= _DARK
    dark_fraction = 1 - float(lit.mean())
    if dark_fraction > 0.98:
        lit = np.ones_like(lit)
    level = float(brightness[lit].mean()) + 0.02  # the offsets keep a black image finite
    pixels = planes.reshape(3, -1) if lit.all() else planes[:, lit]
    colour = pixels.mean(axis=1) + 0.01
    red_share, _, blue_share = colour / colour.sum()
    return np.array(
        [
            red_share,
            blue_share,
            np.log(_colour_spread(pixels) / level + 0.01),
            np.log(_mean_step(brightness, lit) / level + 0.005),
            _radial_trend(brightness),
            level,
            brightness[lit].std() / level,
            dark_fraction,
        ]
    )


@dataclass(frozen=True)
class Likeness:
    """What the training images look like: an image whose distance exceeds `limit` is unlike them.

    `mean` and `scale` are float64 (len(FEATURES),), in the order of FEATURES; `scale` is positive.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    limit: float

    def distance(self, image: Image) -> float:
        """Return how far uint8 (H, W, 3) lies from the training images: the root mean square of scaled differences."""
        return float(_distances(features(image)[None], self.mean, self.scale)[0])

    @classmethod
    def fit(cls, matrix: NDArray[np.float64]) -> Self:
        """Learn from the training images' features, float64 (n, len(FEATURES)), n at least 1; ten images suffice.

        The limit is the 99 % quantile of each image's distance from the others, times a margin that is larger for fewer
        images.
        """
        mean, scale = _centre(matrix)
        margin = 1.05 + 1.7 / np.sqrt(len(matrix))
        usual = float(np.quantile(_distances_from_others(matrix), 0.99)) if len(matrix) > 1 else 0.0
        return cls(mean, scale, max(_LEAST_LIMIT, margin * usual))


def _reduced(image: Image) -> _Plane:
    """Return float64 (3, 64, 64), 0 to 1; large images are thinned first, which does not harm the features."""
    few = PillowImage.fromarray(np.ascontiguousarray(thinned(image)))
    small = np.asarray(few.resize((_SIDE, _SIDE), PillowImage.Resampling.BOX))
    return np.ascontiguousarray(small.transpose(2, 0, 1)) / 255.0


def _colour_spread(pixels: _Plane) -> float:
    """Return the RMS deviation of the chroma (colour less brightness) of pixels (3, n) from its mean."""
    chroma = pixels - pixels.mean(axis=0)
    return float(np.sqrt(np.square(chroma - chroma.mean(axis=1, keepdims=True)).mean()))


def _mean_step(brightness: _Plane, lit: NDArray[np.bool_]) -> float:
    """Return the mean absolute difference of neighbours that are both lit; down and across are averaged."""
    steps = [np.abs(np.diff(brightness, axis=axis)) for axis in (0, 1)]
    both = [lit[1:] & lit[:-1], lit[:, 1:] & lit[:, :-1]]
    return sum(float(step[pairs].mean()) if pairs.any() else 0.0 for step, pairs in zip(steps, both, strict=True)) / 2


def _radial_trend(brightness: _Plane) -> float:
    """Return the correlation of brightness with the distance from the centre, 0 for an even image."""
    if (spread := float(brightness.std())) < 1e-6:
        return 0.0
    return float(((brightness - brightness.mean()) * _DISTANCE).mean()) / spread


def _centre(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each feature's mean and standard deviation, none below its floor."""
    return matrix.mean(axis=0), np.maximum(matrix.std(axis=0), tuple(_FLOORS.values()))


def _distances(
    matrix: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance of each row."""
    distances: NDArray[np.float64] = np.sqrt(np.square((matrix - mean) / scale).mean(axis=1))
    return distances


def _distances_from_others(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's distance from the centre of the other rows, in their scale."""
    left_out = (np.delete(matrix, row, axis=0) for row in range(len(matrix)))
    return np.concatenate([_distances(matrix[[row]], *_centre(others)) for row, others in enumerate(left_out)])

"""What the drawn subjects are made of: smooth lines, clouds and hills, in coordinates from 0 to 1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

Plane = NDArray[np.float32]
"""(size, size)."""

Picture = NDArray[np.float32]
"""(size, size, 3), RGB, about 0 to 255; not clipped yet."""

Point = tuple[float, float]
"""(x, y), in sides of the image from its top left corner."""

FINENESS = 3
"""Lines are drawn on a grid this many times finer, then averaged: that is the anti-aliasing."""


class Canvas:
    """A grey sheet for anti-aliased lines. Points and widths are in sides of the image, tones 0 to 255."""

    def __init__(self, size: int) -> None:
        self._fine = size * FINENESS
        self._sheet = PillowImage.new("L", (self._fine, self._fine))
        self._pen = ImageDraw.Draw(self._sheet)

    def line(self, points: Sequence[Point], width: float, tone: int = 255) -> None:
        """Draw a line with round joints and a round end."""
        self._pen.line(self._pixels(points), fill=tone, width=max(1, round(width * self._fine)), joint="curve")
        self.dot(points[-1], width / 2 - 0.5 / self._fine, tone)

    def dot(self, centre: Point, radius: float, tone: int = 255) -> None:
        """Draw a filled circle; nothing if it is smaller than a pixel of the fine grid."""
        if radius * self._fine > 1:
            self._pen.ellipse(self._box(centre, radius), fill=tone)

    def ring(self, centre: Point, radius: float, width: float, tone: int) -> None:
        """Draw a circle's outline."""
        self._pen.ellipse(self._box(centre, radius), outline=tone, width=max(1, round(width * self._fine)))

    def area(self, outline: Sequence[Point], tone: int) -> None:
        """Fill a polygon."""
        self._pen.polygon(self._pixels(outline), fill=tone)

    def plane(self) -> Plane:
        """Return what was drawn, at the image's size, 0 to 1."""
        return np.asarray(self._sheet.reduce(FINENESS), np.float32) / np.float32(255)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._fine, y * self._fine) for x, y in points]

    def _box(self, centre: Point, radius: float) -> list[Point]:
        (x, y), r = centre, radius
        return self._pixels([(x - r, y - r), (x + r, y + r)])


def grid(size: int) -> tuple[Plane, Plane]:
    """Return x and y of the pixels' centres."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.repeat(line[None], size, axis=0), np.repeat(line[:, None], size, axis=1)


def distance(x: Plane, y: Plane, point: Point) -> Plane:
    """Return each place's distance to a point."""
    away: Plane = np.hypot(x - np.float32(point[0]), y - np.float32(point[1]))
    return away


def hill(x: Plane, y: Plane, top: Point, radius: float) -> Plane:
    """Return a Gaussian of height 1 with standard deviation `radius`."""
    height: Plane = np.exp(np.float32(-0.5) * (distance(x, y, top) / np.float32(radius)) ** 2)
    return height


def clouds(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Return smooth noise of about unit variance, with `cells` hills and hollows along a side."""
    knots = PillowImage.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(knots.resize((size, size), PillowImage.Resampling.BICUBIC))


def ramp(x: Plane) -> Plane:
    """Return 0 up to −1, 1 from +1 on, and a smooth rise between."""
    t = np.clip(x / np.float32(2) + np.float32(0.5), np.float32(0), np.float32(1))
    rise: Plane = t * t * (np.float32(3) - np.float32(2) * t)
    return rise


def noise(rng: np.random.Generator, picture: Picture, sigma: float) -> Picture:
    """Return fresh noise of standard deviation `sigma`, as large as `picture`."""
    return rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)


def blur(picture: Picture, sigma: float) -> Picture:
    """Return the picture blurred by a Gaussian of `sigma` pixels; clips to 0 and 255."""
    soft = PillowImage.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(soft, np.float32)

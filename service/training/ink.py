"""What people draw on skin or lay beside it before a dermoscope: a surgeon's marker, a ruler. For training.

What is beneath keeps its mask: a lesion that a marker crosses goes on under it.
"""

import math
import warnings
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.training.drawing.brush import Canvas, Picture, Plane, Point, clouds

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.transform import MapTransform, RandomizableTransform

MOST = 12
"""Strokes of a marker in one picture; few are as likely as many."""

WIDTHS = (0.01, 0.08)
"""Of a marker's tip, in longer sides of the picture; all strokes of a picture are of one marker."""

LENGTHS = (0.05, 0.8)
"""Of a stroke, likewise."""

TURN = 2.5
"""Radians that a stroke bends at most, either way: some all but enclose what they mark."""

STEPS = 12
"""Straight pieces that a stroke is drawn of."""

RULERS = 0.25
"""Share of the pictures that have a ruler instead of a marker's strokes."""

PITCHES = (0.02, 0.1)
"""Between the ticks of a ruler, in longer sides of the picture."""

STREAK_PX = 5
"""How large a place is, on average, that takes more or less ink than those around it."""

VIOLET = np.array((0.35, 0.25, 0.6), np.float32)
"""What gentian violet lets through of red, green and blue where it lies thick."""

BLACK = np.array((0.15, 0.15, 0.2), np.float32)

INKS = (VIOLET, np.array((0.2, 0.3, 0.65), np.float32), np.array((0.2, 0.5, 0.45), np.float32), BLACK)
"""Of markers: violet, blue, green and black."""


class RandInkd(RandomizableTransform, MapTransform):
    """Draws ink over the image of an {"image", "mask"} item, with probability `prob`.

    The image is float (3, h, w) of 0 to 255 and keeps its size; the mask stays as it is. Ink is no paint: the texture
    of the skin is seen through it.
    """

    def __init__(self, prob: float) -> None:
        MapTransform.__init__(self, keys="image")
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return the item, ink over its image or not."""
        item = dict(data)
        self.randomize(None)
        if self._do_transform:
            image = item["image"].as_subclass(Tensor)
            rng = np.random.default_rng(int(self.R.randint(2**31)))
            height, width = image.shape[1:]
            passed = ink(rng, max(height, width))[:height, :width]
            item["image"] = image * torch.from_numpy(passed.copy()).permute(2, 0, 1)
        return item


def ink(rng: np.random.Generator, size: int) -> Picture:
    """Return what share of red, green and blue passes at each place, float32 (size, size, 3): 1 where no ink is."""
    if rng.random() < RULERS:
        covered, colour = ruler(rng, size), BLACK
    else:
        covered, colour = strokes(rng, size), INKS[rng.integers(len(INKS))]
    streaks = np.clip(1 + rng.uniform(0, 0.5) * (clouds(rng, size, max(2, size // STREAK_PX)) - 0.5), 0, 1)
    jitter = rng.uniform(0.8, 1.2, 3).astype(np.float32)
    passed: Picture = 1 - (covered * streaks)[..., None] * (1 - np.clip(colour * jitter, 0, 1))
    return passed


def strokes(rng: np.random.Generator, size: int, count: int | None = None) -> Plane:
    """Return how thick ink lies at each place, 0 to 1: `count` strokes of one marker, or one to MOST."""
    canvas = Canvas(size)
    width = math.exp(rng.uniform(*np.log(WIDTHS)))
    for _ in range(round(MOST ** rng.uniform(0, 1)) if count is None else count):
        canvas.line(_stroke(rng), width, int(rng.integers(100, 256)))
    return canvas.plane()


def ruler(rng: np.random.Generator, size: int) -> Plane:
    """Return how dark a ruler is at each place, 0 to 1: ticks across a line, every fifth twice as long."""
    canvas = Canvas(size)
    angle, pitch = rng.uniform(0, 2 * math.pi), rng.uniform(*PITCHES)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]]) * rng.uniform(0.01, 0.04)
    middle, width, tone = rng.uniform(0, 1, 2), rng.uniform(0.003, 0.008), int(rng.integers(150, 256))
    for tick in range(-round(1 / pitch), round(1 / pitch) + 1):
        foot = middle + tick * pitch * along
        canvas.line([_point(foot), _point(foot + across * (1 if tick % 5 else 2))], width, tone)
    if rng.random() < 0.5:
        canvas.line([_point(middle - along), _point(middle + along)], width, tone)
    return canvas.plane()


def _stroke(rng: np.random.Generator) -> list[Point]:
    """Return the points of an arc through some place of the picture."""
    length, angle = math.exp(rng.uniform(*np.log(LENGTHS))), rng.uniform(0, 2 * math.pi)
    bend, place = rng.uniform(-TURN, TURN) / STEPS, rng.uniform(0, 1, 2)
    points = [_point(place)]
    for _ in range(STEPS):
        place = place + length / STEPS * np.array([math.cos(angle), math.sin(angle)])
        angle += bend
        points.append(_point(place))
    return points


def _point(place: NDArray[np.float64]) -> Point:
    return float(place[0]), float(place[1])

"""Hairs that lie over a picture, as over skin under a dermoscope; the mask of what is beneath stays."""

import math
import warnings
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from torch import Tensor

from service.training.drawing.brush import Canvas, Plane, Point

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.transform import MapTransform, RandomizableTransform

MOST = 60
"""The most hairs in one picture; few are as likely as many."""

WIDTHS = (0.002, 0.012)
"""Of a hair: a fraction of the longer side of the picture."""

LENGTHS = (0.15, 1.2)
"""Of a hair, likewise."""

STEPS = 16
"""How many straight pieces a hair consists of."""

FAIR = 0.2
"""Share of the pictures whose hairs are lighter than most skin."""


class RandHairsd(RandomizableTransform, MapTransform):
    """Draws hairs over the image of an {"image", "mask"} item, with probability `prob`.

    The image is float (3, h, w) of 0 to 255 and keeps its size; the mask stays as it is, since the part of a lesion
    that a hair hides still belongs to it.
    """

    def __init__(self, prob: float) -> None:
        MapTransform.__init__(self, keys="image")
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return the item, with or without hairs over its image."""
        item = dict(data)
        self.randomize(None)
        if self._do_transform:
            image = item["image"].as_subclass(Tensor)
            rng = np.random.default_rng(int(self.R.randint(2**31)))
            height, width = image.shape[1:]
            covered = torch.from_numpy(hairs(rng, max(height, width))[:height, :width].copy())
            item["image"] = image + covered * (_colour(rng) - image)
        return item


def hairs(rng: np.random.Generator, size: int, count: int | None = None) -> Plane:
    """Return how much hair covers each place, 0 to 1: `count` bent lines, or one to MOST; most go roughly one way."""
    canvas = Canvas(size)
    grain, disorder = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.9)
    for _ in range(round(MOST ** rng.uniform(0, 1)) if count is None else count):
        points = _hair(rng, grain + rng.normal(0, disorder))
        canvas.line(points, rng.uniform(*WIDTHS), int(rng.integers(120, 256)))
    return canvas.plane()


def _hair(rng: np.random.Generator, angle: float) -> list[Point]:
    """Return the points of an arc through some place of the picture."""
    length = rng.uniform(*LENGTHS)
    step, bend = length / STEPS, rng.normal(0, 1.0) / STEPS
    x, y = rng.uniform(0, 1, 2) - 0.5 * length * np.array([math.cos(angle), math.sin(angle)])
    points = [(float(x), float(y))]
    for _ in range(STEPS):
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        angle += bend
        points.append((float(x), float(y)))
    return points


def _colour(rng: np.random.Generator) -> Tensor:
    """Return the hairs' colour, float32 (3, 1, 1): black to brown, or fair."""
    level = rng.uniform(150, 235) if rng.random() < FAIR else rng.uniform(0, 90)
    tint = np.array([1, rng.uniform(0.75, 1), rng.uniform(0.6, 1)], np.float32)
    return torch.from_numpy(np.float32(level) * tint)[:, None, None]

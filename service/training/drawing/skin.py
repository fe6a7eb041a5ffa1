"""A dermoscopy image: a brown lesion with darker spots, hairs over it, sometimes a ruler and dark corners."""

import math

import numpy as np
from numpy.typing import NDArray

from service.training.drawing.brush import (
    Canvas,
    Picture,
    Plane,
    Point,
    blur,
    clouds,
    distance,
    grid,
    hill,
    noise,
    ramp,
)


def draw_skin(rng: np.random.Generator, size: int) -> tuple[Picture, NDArray[np.bool_]]:
    """Return the image and where its lesion is."""
    x, y = grid(size)
    centre = (rng.uniform(0.38, 0.62), rng.uniform(0.38, 0.62))
    depth = _lesion(rng, x, y, centre)
    amount = ramp(depth / rng.uniform(0.015, 0.05)) * _brown(rng, x, y, centre)

    picture = _ground(rng, x, y) * (1 - amount[..., None] * np.array([0.72, 1.0, 1.05], np.float32))
    picture *= 1 - 0.8 * _hairs(rng, size)[..., None]
    if rng.random() < 0.4:
        picture *= 1 - 0.75 * _ruler(rng, size)[..., None]
    if rng.random() < 0.5:
        seen = ramp((rng.uniform(0.53, 0.62) - distance(x, y, (0.5, 0.5))) * 16)
        picture *= 0.08 + 0.92 * seen[..., None]
    picture = blur(picture, 0.5 * size / 256)
    return picture + noise(rng, picture, 3), depth > 0


def _ground(rng: np.random.Generator, x: Plane, y: Plane) -> Picture:
    red = rng.uniform(200, 235)
    tone = np.array([red, red * rng.uniform(0.7, 0.8), red * rng.uniform(0.55, 0.72)], np.float32)
    across, down = rng.uniform(-0.15, 0.15, 2).astype(np.float32)
    light = 1 + across * (x - 0.5) + down * (y - 0.5)
    light += 0.025 * clouds(rng, len(x), 5) + 0.02 * clouds(rng, len(x), 50)
    ground: Picture = tone * light[..., None]
    return ground


def _lesion(rng: np.random.Generator, x: Plane, y: Plane, centre: Point) -> Plane:
    """Return how far inside the lesion's ragged border each place lies; negative outside."""
    dx, dy = x - np.float32(centre[0]), (y - np.float32(centre[1])) * np.float32(rng.uniform(0.8, 1.25))
    angle = np.arctan2(dy, dx)
    border = np.ones_like(x)
    for wave in range(2, 14):
        border += np.float32(rng.normal(0, 0.2 / wave)) * np.cos(wave * angle + np.float32(rng.uniform(0, 2 * math.pi)))
    depth: Plane = np.float32(rng.uniform(0.16, 0.36)) * border - np.hypot(dx, dy)
    return depth


def _brown(rng: np.random.Generator, x: Plane, y: Plane, centre: Point) -> Plane:
    """Return how dark the lesion's pigment is, 0 to about 1."""
    size = len(x)
    pigment = np.float32(rng.uniform(0.3, 0.6)) + 0.14 * clouds(rng, size, 8) + 0.07 * clouds(rng, size, 45)
    for _ in range(rng.integers(4, 14)):
        spot = (centre[0] + rng.normal(0, 0.1), centre[1] + rng.normal(0, 0.1))
        pigment += np.float32(0.22) * hill(x, y, spot, rng.uniform(0.012, 0.035))
    return np.clip(pigment, 0.1, 0.85)


def _hairs(rng: np.random.Generator, size: int) -> Plane:
    """Return how much hair covers each place, 0 to 1."""
    canvas = Canvas(size)
    grain = rng.uniform(0, math.pi)  # they lie roughly one way
    for _ in range(rng.integers(0, 14)):
        (x, y), angle, bend = rng.uniform(-0.1, 1.1, 2), grain + rng.normal(0, 0.5), rng.normal(0, 1.5)
        points = [(x, y)]
        for _ in range(rng.integers(10, 30)):
            angle += bend * 0.02
            x, y = x + 0.02 * math.cos(angle), y + 0.02 * math.sin(angle)
            points.append((x, y))
        canvas.line(points, rng.uniform(0.003, 0.007), int(rng.integers(140, 255)))
    return canvas.plane()


def _ruler(rng: np.random.Generator, size: int) -> Plane:
    """Return the ticks of a ruler along one edge, 0 to 1."""
    canvas = Canvas(size)
    edge, spacing = rng.uniform(0.03, 0.07), rng.uniform(0.02, 0.03)
    for tick in range(int(1 / spacing) + 1):
        length = 0.07 if tick % 10 == 0 else 0.05 if tick % 5 == 0 else 0.03
        canvas.line([(tick * spacing, edge), (tick * spacing, edge + length)], 0.004)
    return np.rot90(canvas.plane(), int(rng.integers(4)))

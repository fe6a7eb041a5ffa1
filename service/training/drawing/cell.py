"""An electron micrograph of nerve tissue: grey cells, dark membranes, organelles that are no membrane."""

import math

import numpy as np
from numpy.typing import NDArray

from service.training.drawing.brush import Canvas, Picture, Plane, Point, blur, clouds, grid, noise, ramp

CELLS = 6
"""Cells along a side."""


def draw_cells(rng: np.random.Generator, size: int) -> tuple[Picture, NDArray[np.bool_]]:
    """Return the micrograph, its three channels equal, and where the inside of cells is."""
    bent_x, bent_y = (line + np.float32(0.028) * clouds(rng, size, 6) for line in grid(size))
    gap, width, tone = _tessellate(rng, bent_x, bent_y)
    depth: Plane = np.subtract(gap, width / 2, dtype=np.float32)  # how far inside its cell a place is
    membrane: Plane = (1 - ramp(depth * np.float32(size / 2))) * np.clip(0.88 + 0.22 * clouds(rng, size, 8), 0.45, 1)

    grey: Plane = (
        tone + 12 * clouds(rng, size, 6) + 10 * clouds(rng, size, 40) + 8 * clouds(rng, size, max(2, size // 3))
    )
    grey -= 255 * _organelles(rng, size) * ramp((depth - 0.01) * np.float32(size / 4))  # they keep off the membranes
    grey += (55 + 10 * clouds(rng, size, 30) - grey) * membrane
    picture = blur(np.repeat(grey[..., None], 3, axis=2), 0.6 * size / 256)
    return picture + noise(rng, picture[..., :1], 9), depth > 0


def _tessellate(rng: np.random.Generator, x: Plane, y: Plane) -> tuple[Plane, Plane, Plane]:
    """Return each place's distance to the border of its Voronoi cell, that border's width, and its cell's grey."""
    side = CELLS + 2  # a row of cells beyond each edge
    rows = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) - 0.5
    centres = ((rows + rng.uniform(-0.55, 0.55, rows.shape)) / CELLS).astype(np.float32)
    first = second = np.full(x.shape, np.inf, np.float32)
    nearest = runner_up = np.zeros(x.shape, np.int16)
    for number, (cx, cy) in enumerate(centres):
        squared = (x - cx) ** 2 + (y - cy) ** 2
        wins, places = squared < first, squared < second
        runner_up = np.where(wins, nearest, np.where(places, np.int16(number), runner_up))
        second = np.where(wins, first, np.where(places, squared, second))
        nearest, first = np.where(wins, np.int16(number), nearest), np.where(wins, squared, first)
    apart = np.linalg.norm(centres[nearest] - centres[runner_up], axis=-1)
    widths = 0.006 + rng.gamma(6, 0.0019, (len(centres), len(centres))).astype(np.float32)
    tones = rng.normal(168, 12, len(centres)).astype(np.float32)
    gap: Plane = (second - first) / (2 * apart + np.float32(1e-6))
    return gap, np.maximum(widths, widths.T)[nearest, runner_up], tones[nearest]


def _organelles(rng: np.random.Generator, size: int) -> Plane:
    """Return how much darker mitochondria and vesicles are, 0 to 1."""
    canvas = Canvas(size)
    for _ in range(rng.integers(9, 16)):
        _mitochondrion(rng, canvas)
    for _ in range(rng.integers(4, 8)):
        _vesicles(rng, canvas)
    return canvas.plane()


def _mitochondrion(rng: np.random.Generator, canvas: Canvas) -> None:
    """A dark, rimmed, dented ellipse with cristae across it."""
    (x, y), angle = rng.uniform(0, 1, 2), rng.uniform(0, math.pi)
    long, short = rng.uniform(0.035, 0.065), rng.uniform(0.02, 0.03)
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))

    def place(u: float, v: float) -> Point:
        return x + u * along[0] + v * across[0], y + u * along[1] + v * across[1]

    dents = rng.normal(0, (0.08, 0.05))
    turns = np.linspace(0, 2 * math.pi, 40)
    radii = 1 + dents[0] * np.cos(2 * turns) + dents[1] * np.cos(3 * turns)
    outline = [place(long * r * math.cos(t), short * r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]
    canvas.area(outline, int(rng.integers(35, 60)))
    for u in np.arange(-0.7 * long, 0.7 * long, 0.013):
        half = 0.75 * short * math.sqrt(1 - (u / long) ** 2)
        canvas.line([place(u, -half), place(u, half)], 0.004, 85)
    canvas.line(outline, 0.007, 95)


def _vesicles(rng: np.random.Generator, canvas: Canvas) -> None:
    """A loose swarm of small rings."""
    swarm = rng.uniform(0, 1, 2)
    for _ in range(rng.integers(6, 22)):
        x, y = swarm + rng.normal(0, 0.03, 2)
        canvas.ring((x, y), rng.uniform(0.0045, 0.008), 0.003, int(rng.integers(45, 100)))

"""A fundus photograph: orange ground, bright optic disc, dark fovea, a tree of vessels, a black surround."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

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

STEP = 0.012
"""Length of one straight piece of a vessel."""

THINNEST = 0.0038
"""Width at which a vessel ends: a pixel at 256."""


def draw_retina(rng: np.random.Generator, size: int) -> tuple[Picture, NDArray[np.bool_]]:
    """Return the photograph and where its vessels are."""
    x, y = grid(size)
    side = rng.choice([-1, 1])  # a left or a right eye
    disc = (0.5 + side * rng.uniform(0.2, 0.28), rng.uniform(0.43, 0.57))
    fovea = (disc[0] - side * rng.uniform(0.3, 0.34), disc[1] + rng.uniform(0.0, 0.05))
    arteries, veins = _vessels(rng, size, disc, fovea)
    vessels = np.maximum(arteries, veins)

    picture = _ground(rng, x, y, disc, fovea)
    depth = vessels * (0.3 + 0.12 * veins) * (1 + 0.15 * clouds(rng, size, 12))
    picture *= 1 - depth[..., None] * np.array([0.75, 1.15, 0.9], np.float32)
    picture = blur(picture + noise(rng, picture, 3.5), 0.35 * size / 256)

    seen = ramp((0.485 - distance(x, y, (0.5, 0.5))) * np.float32(size / 2))
    picture = picture * seen[..., None] + 6
    return picture + noise(rng, picture, 1.5), (vessels >= 0.5) & (seen >= 0.5)


def _ground(rng: np.random.Generator, x: Plane, y: Plane, disc: Point, fovea: Point) -> Picture:
    size = len(x)
    lamp = (rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65))
    light = 1 - 0.35 * distance(x, y, lamp) + 0.08 * clouds(rng, size, 6) + 0.04 * clouds(rng, size, 40)
    light -= 0.3 * hill(x, y, fovea, 0.07)
    colour = np.array([rng.uniform(185, 225), rng.uniform(85, 120), rng.uniform(35, 65)], np.float32)
    head = ramp((rng.uniform(0.045, 0.06) - distance(x, y, disc)) * 60)  # the nerve's head, and its glow
    glow = 0.75 * head + 0.35 * hill(x, y, disc, 0.09)
    ground: Picture = colour * light[..., None] + np.array([55, 105, 75], np.float32) * glow[..., None]
    return ground


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vessel:
    """`angle` in radians, `bend` in radians for each side of the image travelled."""

    start: Point
    angle: float
    bend: float
    width: float
    length: float
    canvas: Canvas


def _vessels(rng: np.random.Generator, size: int, disc: Point, fovea: Point) -> tuple[Plane, Plane]:
    """Return the coverage, 0 to 1, of arteries and of veins."""
    arteries, veins = Canvas(size), Canvas(size)
    growing = [*_trunks(rng, disc, fovea, arteries, 0.0115), *_trunks(rng, disc, fovea, veins, 0.0145)]
    while growing:
        growing += _grow(rng, growing.pop(), fovea)
    return arteries.plane(), veins.plane()


def _trunks(rng: np.random.Generator, disc: Point, fovea: Point, canvas: Canvas, width: float) -> Iterator[_Vessel]:
    """The four arcades: above and below, two that arch round the fovea and two away from it."""
    inwards = math.copysign(1, fovea[0] - disc[0])
    for up in (-1, 1):
        for out in (inwards, -inwards):
            arch, low, high = (1.0, 0.95, 1.3) if out == inwards else (0.25, 0.4, 1.0)
            rise = rng.uniform(low, high)
            yield _Vessel(
                start=disc,
                angle=math.atan2(up * math.sin(rise), out * math.cos(rise)) + rng.normal(0, 0.1),
                bend=-up * out * arch * rng.uniform(1.9, 2.5),
                width=width * rng.uniform(0.9, 1.1),
                length=rng.uniform(0.65, 0.85),
                canvas=canvas,
            )


def _grow(rng: np.random.Generator, vessel: _Vessel, fovea: Point) -> list[_Vessel]:
    """Draw one vessel, thinning and wandering until it ends or nears the fovea; return the branches that leave it."""
    (x, y), angle, width = vessel.start, vessel.angle, vessel.width
    branches: list[_Vessel] = []
    travelled, wander, side = 0.0, 0.0, int(rng.choice([-1, 1]))
    next_branch = rng.uniform(0.04, 0.11)
    while travelled < vessel.length and width > THINNEST and math.dist((x, y), fovea) > 0.06:
        wander = 0.85 * wander + rng.normal(0, 1.6)
        angle += (vessel.bend + wander) * STEP
        there = (x + STEP * math.cos(angle), y + STEP * math.sin(angle))
        vessel.canvas.line([(x, y), there], width)
        (x, y), travelled, width = there, travelled + STEP, width * 0.984
        if travelled > next_branch:
            rest = vessel.length - 0.5 * travelled
            branches.append(_branch(rng, replace(vessel, start=there, angle=angle, width=width, length=rest), side))
            side, next_branch = -side, travelled + rng.uniform(0.05, 0.12)
    return branches


def _branch(rng: np.random.Generator, parent: _Vessel, side: int) -> _Vessel:
    """Return a branch that leaves `parent` at its start: thinner, shorter, first to one `side`, then bending back."""
    return replace(
        parent,
        angle=parent.angle + side * rng.uniform(0.5, 1.0),
        bend=-side * rng.uniform(0, 2.0),
        width=parent.width * rng.uniform(0.5, 0.8),
        length=parent.length * rng.uniform(0.4, 0.75),
    )

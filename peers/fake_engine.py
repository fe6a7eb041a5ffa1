"""An engine that takes 0.2 s for a batch, fails on one colour, is slow on another, and notes each image it is given."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import EngineFailed
from service.imaging.policy import InputPolicy
from service.store.card import Card

Colour = tuple[int, int, int]

BATCH_S = 0.2
SLOW_S = 1.0

POISON: Colour = (255, 0, 255)
SLOW: Colour = (255, 255, 0)
BLACK: Colour = (0, 0, 0)
"""Of warm-up images: they cost no time and are not noted."""

GRID = InputPolicy(kind="stretch", height=64, width=64)


class FakeEngine:
    """Stands for `service.engine.engine.Engine`: a pixel's probability is its green channel.

    A batch takes BATCH_S, or SLOW_S if one of its tiles is SLOW; if one is POISON it then fails as a whole. What the
    tiles were is appended to `seen` before that: one line for each batch, a JSON list of their first pixels.
    """

    def __init__(self, card: Card, seen: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._card = on_small_grid(card)
        self._seen, self._sleep = seen, sleep

    @property
    def card(self) -> Card:
        """What it pretends to be."""
        return self._card

    @property
    def device(self) -> str:
        """Where it pretends to run."""
        return "fake"

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return the green channel, uint8 (h, w), of each tile of uint8 (h, w, 3).

        Raises:
            EngineFailed: a tile is POISON.
        """
        colours = [_first_pixel(tile) for tile in tiles]
        if set(colours) != {BLACK}:
            note(self._seen, colours)
            self._sleep(SLOW_S if SLOW in colours else BATCH_S)
        if POISON in colours:
            raise EngineFailed("a poisonous tile")
        return [np.ascontiguousarray(tile[..., 1]) for tile in tiles]


def on_small_grid(card: Card) -> Card:
    """Return the card with a grid of 64 × 64, so that pixels cost next to nothing."""
    return card.model_copy(update={"input": GRID})


def note(seen: Path, colours: Sequence[Colour]) -> None:
    """Append one batch to the file; one write, so that lines of several processes do not mix."""
    line = json.dumps(colours).encode() + b"\n"
    file = os.open(seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def times_run(seen: Path, colour: Colour) -> int:
    """Return how many images of this colour engines have been given so far."""
    if not seen.exists():
        return 0
    return sum(json.loads(line).count(list(colour)) for line in seen.read_text().splitlines())


def _first_pixel(tile: NDArray[np.uint8]) -> Colour:
    red, green, blue = tile[0, 0].tolist()
    return red, green, blue

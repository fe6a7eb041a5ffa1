"""An engine whose answers, delays and failures a test controls, and cards and images that go with it."""

import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.engine.probing import raster
from service.errors import EngineFailed
from service.imaging.policy import InputPolicy
from service.imaging.probe import probe
from service.imaging.statistics import FEATURES
from service.store.card import Card, Probe, TrainingImages
from tests.cards import make_card

POISON = (255, 0, 255)
"""A tile that is all of this colour cannot be run by a FakeEngine."""

Colour = tuple[int, int, int]

Pixels = NDArray[np.uint8]


def fake_engine_card(
    modality: str = "retina",
    kind: Literal["fit", "stretch", "tile"] = "stretch",
    height: int = 64,
    width: int = 64,
    unlike_from: float = 100.0,
    **changes: Any,
) -> Card:
    """Return a card whose recorded probe answer is a FakeEngine's.

    No image is so odd that it is unlike the training images, unless `unlike_from` (a distance) is made small.
    """
    ones = (1.0,) * len(FEATURES)
    fields = {
        "input": InputPolicy(kind=kind, height=height, width=width),
        "training_images": TrainingImages(features=FEATURES, mean=ones, scale=ones, limit=unlike_from),
    }
    card = make_card(modality, **(fields | changes))
    drawn = probe(card.input.grid, card.normalisation.mean, card.normalisation.std)
    answer = raster(drawn[..., 1] / 255, rows=1, columns=2)
    return card.model_copy(update={"probe": Probe(rows=1, columns=2, answer=answer, tolerance=0.02)})


class FakeEngine:
    """Says that a pixel's probability is its green channel.

    Each call takes `delay_s`, then waits until `gate` is set, if there is one; `batches` lists the calls' sizes. With
    two `slots` or more it runs so many single tiles side by side. Memory runs out if there are more tiles than `room`,
    in all calls at that moment together, and a tile that is all of one colour raises what `raises` has for that colour.
    Black tiles, as those of the warm-up are, take neither time nor memory.
    With `answers_of` (height, width) it gives answers of that size, whatever its card says.
    """

    def __init__(
        self,
        card: Card,
        *,
        delay_s: float = 0.0,
        gate: threading.Event | None = None,
        room: int = 1000,
        raises: Mapping[Colour, BaseException] | None = None,
        answers_of: tuple[int, int] | None = None,
        slots: int = 1,
    ) -> None:
        self._card, self.slots = card, slots
        self._lock, self._running = threading.Lock(), 0
        self._height, self._width = answers_of or card.input.grid
        self._delay_s = delay_s
        self._gate = gate
        self._room = room
        self._raises = {POISON: EngineFailed("a poisonous tile")} | dict(raises or {})
        self.batches: list[int] = []

    @property
    def card(self) -> Card:
        return self._card

    @property
    def device(self) -> str:
        return "cpu float32"

    def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        self.batches.append(len(tiles))
        black = not any(tile.any() for tile in tiles)
        with self._memory_for(0 if black else len(tiles)):
            if not black:
                time.sleep(self._delay_s)
            if self._gate is not None and not self._gate.wait(timeout=120):
                raise EngineFailed("nobody opened the gate")
            return self._green_of(tiles)

    def predict_beside(self, tile: Pixels) -> Pixels:
        return self.predict([tile])[0]

    @contextmanager
    def _memory_for(self, tiles: int) -> Iterator[None]:
        with self._lock:
            self._running += tiles
            fits = self._running <= self._room
        try:
            yield
            if not fits:
                raise MemoryError
        finally:
            with self._lock:
                self._running -= tiles

    def _green_of(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        for colour, error in self._raises.items():
            if any((tile == colour).all() for tile in tiles):
                raise error
        return [np.ascontiguousarray(tile[: self._height, : self._width, 1]) for tile in tiles]


def draw(seed: int = 0, height: int = 64, width: int = 64) -> Pixels:
    """Return noise, uint8 (height, width, 3), none of it poisonous."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def flat(colour: Colour) -> Pixels:
    """Return an image of one colour, uint8 (64, 64, 3); resizing leaves it so."""
    return np.full((64, 64, 3), colour, np.uint8)


def poisonous() -> Pixels:
    """Return an image that a FakeEngine cannot be run on."""
    return flat(POISON)


def mask_of(pixels: Pixels, threshold: float = 0.5) -> NDArray[np.bool_]:
    """Return the mask that a FakeEngine gives an image of its own grid's size."""
    return pixels[..., 1] >= threshold * 255


def png(pixels: Pixels | NDArray[np.bool_]) -> bytes:
    """Encode uint8 (H, W) or (H, W, 3), or bool (H, W), without loss."""
    levels = np.where(pixels, 255, 0).astype(np.uint8) if pixels.dtype == np.bool_ else pixels
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def read_png(content: bytes) -> Pixels:
    """Decode an 8-bit PNG, as it is."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)

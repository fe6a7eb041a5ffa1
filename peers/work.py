"""The work that every server does: decode, run, encode. It is our server's own code, so that only serving differs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers.fake_engine import FakeEngine, on_small_grid
from peers.options import MAX_PIXELS, Options
from service.engine.engine import Engine, checked_predict
from service.engine.image_work import ImageWork, Prepared, Upload
from service.store.card import Card
from service.store.model_store import ModelStore

Tile = NDArray[np.uint8]
"""(h, w, 3), RGB, of the checkpoint's grid."""

ProbabilityMap = NDArray[np.uint8]
"""(h, w), 255 × probability."""


def make_engine(store: Path, modality: str) -> Engine:
    """Return the engine that our server would run for the checkpoint that it would serve.

    Raises:
        UnknownModality, BadCheckpoint: see `ModelStore.current` and `load_engine`.
    """
    from service.engine.choosing import load_engine  # noqa: PLC0415 -- processes that only decode need no torch

    return load_engine(ModelStore(store).current(modality))


class Pixels:
    """Decoding and encoding of one server's uploads; safe to use from many threads at once. Needs no engine."""

    def __init__(self, card: Card) -> None:
        self._work = ImageWork(card, max_pixels=MAX_PIXELS)

    @classmethod
    def of(cls, options: Options) -> "Pixels":
        """Return those that go with `Network.of(options)`, also in another process."""
        card = ModelStore(options.store).current(options.modality).card
        return cls(on_small_grid(card) if options.engine == "fake" else card)

    def decode(self, upload: bytes) -> Prepared:
        """Return an upload laid on the network's grid, its likeness to the training images looked at.

        Raises:
            BadUpload: it cannot be used.
        """
        return self._work.before(Upload(image=upload))

    def encode(self, prepared: Prepared, maps: Sequence[ProbabilityMap]) -> bytes:
        """Return the mask as PNG on the upload's own grid; its area and expected IoU are found as our server does."""
        return self._work.after(Upload(image=b""), prepared, maps).mask_png


class Network:
    """One engine, warmed for every batch size. To be called from one thread at a time."""

    def __init__(self, engine: Engine, largest_batch: int) -> None:
        self._engine = engine
        blank = np.zeros((*engine.card.input.grid, 3), np.uint8)
        for size in range(1, largest_batch + 1):
            checked_predict(engine, [blank] * size)

    @classmethod
    def of(cls, options: Options, *, largest_batch: int) -> "Network":
        """Build what the options ask for; of a real engine the file `seen` then says where it runs."""
        if options.engine == "fake":
            card = ModelStore(options.store).current(options.modality).card
            return cls(FakeEngine(card, options.seen), largest_batch)
        engine = make_engine(options.store, options.modality)
        options.seen.write_text(engine.device)
        return cls(engine, largest_batch)

    def run(self, uploads: Sequence[Sequence[Tile]]) -> list[list[ProbabilityMap]]:
        """Run all tiles of all uploads as one batch; return each upload's maps.

        Raises:
            EngineFailed: the batch could not be run.
        """
        maps = iter(checked_predict(self._engine, [tile for tiles in uploads for tile in tiles]))
        return [[next(maps) for _ in tiles] for tiles in uploads]

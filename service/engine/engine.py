"""What an engine is: decoded pixels in, probabilities out, on whatever device it has. One file for each backend."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import EngineFailed
from service.store.card import Card


class Engine(Protocol):
    """One checkpoint, ready to answer. Called from one thread at a time; knows no HTTP, no files, no queue."""

    @property
    def card(self) -> Card:
        """What this checkpoint is."""

    @property
    def device(self) -> str:
        """Where it runs and in which precision, for people: "cuda:0 float16", "cpu bfloat16"."""

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return one foreground probability map for each tile, in order.

        Tiles are uint8 (h, w, 3), RGB, 0 to 255, all of the card's `input.grid`. Maps are uint8 (h, w): 255 × the
        calibrated probability, rounded. Normalisation, temperature and sigmoid happen inside.

        Raises:
            EngineFailed: the device could not run the batch.
        """


def checked_predict(engine: Engine, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return what `engine.predict` answers, once it is known to be a map of the right kind for each tile.

    A map of another shape or dtype would otherwise be resized into an answer that looks sound.

    Raises:
        EngineFailed: as `Engine.predict`, or its answer breaks the contract.
    """
    maps = engine.predict(tiles)
    grid = engine.card.input.grid
    if len(maps) != len(tiles) or any(map_.shape != grid or map_.dtype != np.uint8 for map_ in maps):
        answered = [f"{map_.dtype} {map_.shape}" for map_ in maps[:1]]
        raise EngineFailed(
            f"the engine answers with other shapes than its card says: {len(tiles)} × uint8 {grid} were expected, "
            f"{len(maps)} × {''.join(answered) or 'nothing'} came"
        )
    return maps

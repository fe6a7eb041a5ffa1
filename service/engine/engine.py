"""What an engine is: decoded pixels in, probabilities out, on whatever device it has. One file for each backend."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

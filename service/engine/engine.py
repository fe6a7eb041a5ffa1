"""What an engine is: decoded pixels in, probabilities out, on whatever device it has. One file for each backend."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from service.engine.slots import SideBySide
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
            DeviceLost: the device does not answer any more; another process has to take over.
        """


@runtime_checkable
class EngineWithSlots(Engine, Protocol):
    """An engine that gains nothing from batches, but runs single tiles side by side, as on the cores of a CPU."""

    @property
    def slots(self) -> int:
        """How many tiles it runs at a time; 1 if there is only one core."""

    def predict_beside(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what `predict` does for one tile, to the bit, on one slot's share of the device.

        It may be called from as many threads at a time as there are slots, but not while `predict` runs.

        Raises:
            EngineFailed, DeviceLost: as `predict`.
        """


@runtime_checkable
class EngineThatPrepares(Engine, Protocol):
    """An engine whose first batch of a size takes longer than all later ones, as it chooses kernels or records them."""

    def prepare(self, batch_size: int) -> None:
        """Do what a first batch of `batch_size` would do, so that the next one takes what all later ones take.

        Raises:
            EngineFailed, DeviceLost: as `predict`.
        """


def side_by_side(engine: Engine) -> SideBySide[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Return what runs single tiles on `engine`, with answers checked as by `checked_predict`; None if it cannot."""
    if not isinstance(engine, EngineWithSlots) or engine.slots < 2:
        return None

    def run(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _checked(engine, [engine.predict_beside(tile)], 1)[0]

    return SideBySide(run, engine.slots)


def checked_predict(engine: Engine, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return what `engine.predict` answers, once it is known to be a map of the right kind for each tile.

    A map of another shape or dtype would otherwise be resized into an answer that looks sound.

    Raises:
        EngineFailed: as `Engine.predict`, or its answer breaks the contract.
    """
    return _checked(engine, engine.predict(tiles), len(tiles))


def _checked(engine: Engine, maps: list[NDArray[np.uint8]], expected: int) -> list[NDArray[np.uint8]]:
    grid = engine.card.input.grid
    if len(maps) != expected or any(map_.shape != grid or map_.dtype != np.uint8 for map_ in maps):
        answered = [f"{map_.dtype} {map_.shape}" for map_ in maps[:1]]
        raise EngineFailed(
            f"the engine answers with other shapes than its card says: {expected} × uint8 {grid} were expected, "
            f"{len(maps)} × {''.join(answered) or 'nothing'} came"
        )
    return maps

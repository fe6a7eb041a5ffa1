"""The warm-up's costs are those of batches that come later: what an engine prepares once is not among them."""

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.device import Device
from service.engine.loading import read, warm_up
from service.errors import BadCheckpoint, EngineFailed
from service.store.checkpoint import Checkpoint
from tests.cards import make_card
from tests.doubles import FakeEngine

PREPARING_S = 0.3


class Preparing(FakeEngine):
    """As a GPU's engine it takes long over the first batch of a size, and says so."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__(make_card())
        self.prepared: list[int] = []
        self._holds = room

    def prepare(self, batch_size: int) -> None:
        if batch_size > self._holds:
            raise MemoryError
        time.sleep(PREPARING_S)
        self.prepared.append(batch_size)

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        if len(tiles) not in self.prepared:
            raise EngineFailed("a batch whose kernels were not chosen")
        return super().predict(tiles)


def costs(engine: FakeEngine, largest: int) -> dict[int, float]:
    async def main() -> dict[int, float]:
        async with Device("cpu") as device:
            return await warm_up(engine, device, largest)

    return asyncio.run(main())


def test_each_size_is_prepared_before_it_is_timed() -> None:
    engine = Preparing()
    took = costs(engine, 3)
    assert engine.prepared == engine.batches == list(took) == [1, 2, 3]
    assert max(took.values()) < PREPARING_S


def test_a_fault_that_is_no_lack_of_memory_is_not_served_around() -> None:
    class Faulty(FakeEngine):
        def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
            if len(tiles) > 2:
                raise RuntimeError("a kernel that does not run at this size")
            return super().predict(tiles)

    with pytest.raises(RuntimeError, match="a kernel"):
        costs(Faulty(make_card()), 8)


def test_preparing_for_more_than_memory_holds_ends_the_warm_up_with_what_it_does_hold() -> None:
    assert list(costs(Preparing(room=2), 8)) == [1, 2]


@pytest.mark.parametrize(
    ("slots", "largest", "expected"),
    [(2, 8, [1, 4]), (2, 3, [1, 3]), (3, 1, [1]), (8, 8, [1, 8]), (1, 8, [1, 2, 4, 8])],
)
def test_what_runs_tile_by_tile_is_warm_after_two_for_each_slot(slots: int, largest: int, expected: list[int]) -> None:
    engine = FakeEngine(make_card(), slots=slots)
    assert list(costs(engine, largest)) == engine.batches == expected


def test_between_two_sizes_whoever_else_wants_the_device_has_it() -> None:
    engine = FakeEngine(make_card())

    async def main() -> list[int]:
        sizes: list[int] = []
        async with Device("cpu", clock=lambda: 0.0) as device:  # no turn costs anything: they alternate
            warming = asyncio.create_task(warm_up(engine, device, 4))
            share = device.turns.share()
            while not warming.done():
                async with share:
                    sizes.append(len(engine.batches))
                    await device.run(lambda: None)
            await warming
        return sizes

    assert {1, 2} <= set(asyncio.run(main()))


def test_no_room_for_a_single_tile_is_no_engine() -> None:
    with pytest.raises(MemoryError):
        costs(Preparing(room=0), 4)


def test_a_disk_that_takes_its_time_holds_up_nobody_else() -> None:
    """Files are read in a thread of their own: the event loop, which answers everybody, goes on meanwhile."""
    answered = threading.Event()

    def open_slowly() -> Checkpoint:
        assert answered.wait(10), "the event loop waits for the disk"
        raise BadCheckpoint("half of a file")

    async def main() -> None:
        reading = asyncio.create_task(read(open_slowly))
        await asyncio.sleep(0)
        answered.set()
        with pytest.raises(BadCheckpoint, match="half of a file"):
            await reading

    asyncio.run(main())

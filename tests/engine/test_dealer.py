"""Batches dealt out item by item to the slots of a device. All in virtual time."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from service.engine.batcher import Batcher, BatchReport
from service.engine.device import Device
from service.engine.engine import Engine, side_by_side
from service.engine.slots import SideBySide
from service.errors import DeviceLost, EngineFailed
from tests.cards import make_card
from tests.engine.scripted_engine import ask, outcomes
from tests.engine.virtual_time import SlotsExecutor, SpendingExecutor, now, run_virtually


class Cores:
    """Items are ints: their tens say for how many seconds each runs, on a slot or alone; all together take one second.

    Memory holds `room` of them side by side.
    """

    def __init__(self, slots: int = 2, raises: dict[int, BaseException] | None = None, room: int = 99) -> None:
        self.together, self.raises, self.room = SpendingExecutor(), raises or {}, room
        self.beside = SlotsExecutor(slots, self.together)
        self.engine = SideBySide(self.run_one, slots)
        self.device = Device("virtual", executor=self.together, beside=self.beside, clock=now)
        self.alone: list[list[int]] = []
        self.begun: list[tuple[float, int]] = []
        self.reports: list[BatchReport] = []

    def run(self, items: Sequence[int]) -> list[int]:
        self.alone.append(list(items))
        self.together.spend(1.0)
        return list(items)

    def run_one(self, item: int) -> int:
        self.begun.append((now(), item))
        if self.beside.running > self.room or self.room == 0:
            raise MemoryError
        (self.together if self.together.is_busy else self.beside).spend(item // 10)
        if item in self.raises:
            raise self.raises[item]
        return item

    @asynccontextmanager
    async def serving(self, max_size: int = 8) -> AsyncIterator[Batcher[int, int]]:
        batcher = Batcher(
            self.run,
            side_by_side=self.engine,
            device=self.device,
            max_size=max_size,
            max_wait_s=1.0,
            max_queued=64,
            on_batch=self.reports.append,
            clock=now,
        )
        async with self.device, batcher:
            yield batcher


def test_an_upload_that_comes_alone_has_the_whole_device() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            for item in (20, 30):
                answer = await batcher.submit([item])
                assert (answer.results, answer.batch_size, answer.ran_s) == ([item], 1, 1.0)
        assert (cores.alone, cores.begun) == ([[20], [30]], [])

    run_virtually(main)


def test_several_run_side_by_side_and_each_answer_leaves_when_it_is_there() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (10, 40, 11, 12)]
            ended = {}
            for call in asyncio.as_completed(calls):
                answer = await call
                ended[answer.results[0]] = (now(), answer.queued_s, answer.ran_s, answer.batch_size)
        assert ended == {10: (1, 0, 1, 4), 11: (2, 1, 1, 4), 12: (3, 2, 1, 4), 40: (4, 0, 4, 4)}
        assert cores.alone == []

    run_virtually(main)


def test_the_next_batch_begins_where_a_slot_is_free_while_the_last_item_of_the_one_before_still_runs() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving(max_size=2) as batcher:
            await outcomes([ask(batcher, [item]) for item in (10, 50, 11, 12, 13)])
        assert cores.begun == [(0, 10), (0, 50), (1, 11), (2, 12), (3, 13)]

    run_virtually(main)


def test_one_that_comes_while_another_runs_takes_the_free_slot() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (30, 31)]
            await asyncio.sleep(0)
            calls.append(ask(batcher, [10]))
            await outcomes(calls[:2])
            await outcomes(calls)
        assert cores.begun == [(0, 30), (0, 31), (3, 10)]

    run_virtually(main)


def test_the_tiles_of_a_large_upload_come_back_in_their_order_and_their_time_counts_once() -> None:
    async def main() -> None:
        cores = Cores(slots=3)
        async with cores.serving() as batcher:
            answer = await batcher.submit([40, 10, 20, 30])
        assert answer.results == [40, 10, 20, 30]
        assert (answer.queued_s, answer.ran_s) == (0, 4)

    run_virtually(main)


def test_an_upload_has_queued_until_its_first_tile_began_whenever_its_others_did() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            upload, *others = [ask(batcher, items) for items in ([10, 11], [30], [40])]
            answer = await upload
            assert cores.begun == [(0, 10), (0, 30), (1, 40), (3, 11)]
            assert (answer.queued_s, answer.ran_s) == (0, 2)
            await outcomes(others)

    run_virtually(main)


def test_nobody_waits_for_mates_whatever_the_warm_up_said_that_a_batch_costs_besides_its_items() -> None:
    async def main() -> None:
        cores = Cores()
        batcher = Batcher(
            cores.run,
            side_by_side=cores.engine,
            device=cores.device,
            max_size=8,
            max_wait_s=1.0,
            max_queued=64,
            first_costs={1: 1.0, 4: 1.0},
            clock=now,
        )
        async with cores.device, batcher:
            await outcomes([ask(batcher, [item]) for item in (1, 2)])
            assert (await batcher.submit([3])).queued_s == 0.0

    run_virtually(main)


def test_an_item_that_cannot_be_run_fails_alone() -> None:
    async def main() -> None:
        cores = Cores(raises={13: ValueError("bad")})
        async with cores.serving() as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(10, 18)])
        assert isinstance(ends[3], EngineFailed)
        assert ends[:3] + ends[4:] == [[item] for item in range(10, 18) if item != 13]
        assert len(cores.begun) == 8

    run_virtually(main)


def test_an_error_that_is_meant_for_callers_reaches_its_own_as_it_is() -> None:
    async def main() -> None:
        error = EngineFailed("the network answered with NaN")
        cores = Cores(raises={13: error})
        async with cores.serving() as batcher:
            assert await outcomes([ask(batcher, [item]) for item in (12, 13)]) == [[12], error]

    run_virtually(main)


class Pixels:
    """What a failed call held."""


def test_what_a_failed_item_held_is_free_while_its_caller_still_has_the_error() -> None:
    held: list[weakref.ref[Pixels]] = []

    class Holding(Cores):
        def run_one(self, item: int) -> int:
            pixels = Pixels()
            held.append(weakref.ref(pixels))
            return super().run_one(item)

    async def main() -> None:
        cores = Holding(raises={13: ValueError("bad")})
        async with cores.serving() as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in (13, 11)])
        assert isinstance(ends[0], EngineFailed)
        assert [pixels() for pixels in held] == [None, None]

    gc.disable()
    try:
        run_virtually(main)
    finally:
        gc.enable()


def test_an_item_for_which_memory_has_no_room_beside_others_runs_again_alone_and_fewer_run_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        cores = Cores(slots=3, room=2)
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (20, 21, 22, 23)]
            assert await outcomes(calls) == [[20], [21], [22], [23]]
            assert (calls[2].result().queued_s, calls[2].result().ran_s) == (4.0, 2.0)
            assert [item for _, item in cores.begun] == [20, 21, 22, 23, 22]
            cores.begun.clear()
            ends = await outcomes([ask(batcher, [item]) for item in range(10, 18)])
            assert ends == [[item] for item in range(10, 18)]
        assert [item for _, item in cores.begun] == list(range(10, 18))
        assert cores.reports == [BatchReport(4, 6.0, failed=True), BatchReport(8, 4.0, failed=False)]

    run_virtually(main)
    assert caplog.messages == ["out of memory with 3 side by side; from now on there are 2"]


def test_an_item_that_runs_again_alone_waits_for_the_turn_of_others() -> None:
    async def main() -> None:
        cores = Cores(room=1)
        others = Batcher(cores.run, device=cores.device, max_size=8, max_wait_s=0, max_queued=8, clock=now)
        async with cores.serving() as batcher, others:
            calls = [ask(batcher, [item]) for item in (30, 31)]
            await asyncio.sleep(1)
            calls.append(ask(others, [7]))
            assert await outcomes(calls) == [[30], [31], [7]]

    run_virtually(main)


def test_how_many_run_side_by_side_from_then_on_goes_by_how_many_did_when_memory_ran_out() -> None:
    async def main() -> None:
        cores = Cores(slots=4, room=1)
        async with cores.serving() as batcher:
            await outcomes([ask(batcher, [item]) for item in (10, 11)])
            cores.begun.clear()
            await outcomes([ask(batcher, [item]) for item in (12, 13, 14)])
        assert cores.begun == [(2, 12), (3, 13), (4, 14)]

    run_virtually(main)


def test_an_item_for_which_memory_has_no_room_at_all_fails_alone() -> None:
    async def main() -> None:
        cores = Cores(room=0)
        async with cores.serving() as batcher:
            for pair in ((10, 11), (12, 13)):
                ends = await outcomes([ask(batcher, [item]) for item in pair])
                assert [type(end) for end in ends] == [EngineFailed, EngineFailed]
            cores.room = 1
            assert await outcomes([ask(batcher, [item]) for item in (14, 15)]) == [[14], [15]]

    run_virtually(main)


def test_who_leaves_while_its_item_waits_to_run_again_is_not_run() -> None:
    async def main() -> None:
        cores = Cores(room=1)
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (30, 31)]
            await asyncio.sleep(1)
            calls[1].cancel()
            await outcomes(calls)
        assert [item for _, item in cores.begun] == [30, 31]

    run_virtually(main)


def test_whoever_leaves_before_a_slot_is_free_is_not_run() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (20, 21, 10, 11)]
            await asyncio.sleep(1)
            calls[2].cancel()
            await outcomes(calls)
        assert [item for _, item in cores.begun] == [20, 21, 11]
        assert [report.size for report in cores.reports] == [3]

    run_virtually(main)


def test_a_batch_of_which_nobody_is_left_before_a_slot_is_free_hurts_nobody() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (20, 21)]
            await asyncio.sleep(1)
            calls.append(ask(batcher, [10]))
            await asyncio.sleep(0.5)
            calls[2].cancel()
            await outcomes(calls)
            assert (await batcher.submit([30])).results == [30]
        assert [report.size for report in cores.reports] == [2, 1]

    run_virtually(main)


def test_what_was_dealt_out_tells_nothing_of_what_batches_cost() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            for _ in range(5):
                await outcomes([ask(batcher, [item]) for item in (10, 11, 12, 13)])
            assert batcher._costs.seconds(4) == 0.0

    run_virtually(main)


def test_a_batch_whose_last_caller_has_left_when_all_others_are_through_is_reported() -> None:
    async def main() -> None:
        cores = Cores()
        async with cores.serving() as batcher:
            calls = [ask(batcher, [item]) for item in (20, 21, 10)]
            await asyncio.sleep(1)
            calls[2].cancel()
            await outcomes(calls)
        assert cores.reports == [BatchReport(2, 2, failed=False)]

    run_virtually(main)


def test_a_batch_is_reported_once_when_its_last_item_is_through() -> None:
    async def main() -> None:
        cores = Cores(raises={13: ValueError("bad")})
        async with cores.serving() as batcher:
            await outcomes([ask(batcher, [item]) for item in (10, 20, 30)])
            await outcomes([ask(batcher, [item]) for item in (12, 13)])
        assert cores.reports == [BatchReport(3, 4, failed=False), BatchReport(2, 1, failed=True)]

    run_virtually(main)


def test_a_batch_of_others_waits_until_all_slots_are_free() -> None:
    async def main() -> None:
        cores = Cores()
        ran_at = []

        def together(items: Sequence[int]) -> list[int]:
            ran_at.append(now())
            return cores.run(items)

        others = Batcher(together, device=cores.device, max_size=8, max_wait_s=0, max_queued=8, clock=now)
        async with cores.serving() as batcher, others:
            calls = [ask(batcher, [item]) for item in (10, 30)]
            await asyncio.sleep(0)
            calls.append(ask(others, [7]))
            await outcomes(calls)
        assert ran_at == [3]

    run_virtually(main)


def test_a_device_lost_by_one_item_is_lost_for_all() -> None:
    async def main() -> None:
        cores = Cores(raises={11: SystemExit()})
        async with cores.serving() as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in (30, 11, 12, 13)])
            assert all(isinstance(end, DeviceLost) for end in ends)
            with pytest.raises(DeviceLost):
                await batcher.submit([10])
        assert 13 not in [item for _, item in cores.begun]

    run_virtually(main)


class Wide:
    """An engine without slots."""

    def __init__(self) -> None:
        self.card, self.device = make_card("retina"), "test"

    def predict(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.zeros(self.card.input.grid, np.uint8) for _ in tiles]


class Narrow(Wide):
    """An engine with slots."""

    def __init__(self, slots: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.slots, self.shape = slots, shape

    def predict_beside(self, tile: np.ndarray) -> np.ndarray:
        return np.zeros(self.shape, tile.dtype)


@pytest.mark.parametrize("engine", [Wide(), Narrow(1, (3, 3))])
def test_an_engine_without_two_slots_at_least_runs_batches(engine: Engine) -> None:
    assert side_by_side(engine) is None


def test_what_an_engine_answers_on_a_slot_is_checked() -> None:
    found = side_by_side(Narrow(2, (3, 3)))
    assert found is not None
    with pytest.raises(EngineFailed, match="other shapes"):
        found.run(np.zeros((3, 3, 3), np.uint8))

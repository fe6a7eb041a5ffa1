"""Whatever the engine does, only those whom it concerns fail, and nobody is left hanging. All in virtual time."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Sequence
from functools import partial
from typing import cast

import pytest

from service.engine.batcher import Batcher, BatchReport
from service.engine.device import Device
from service.errors import DeviceLost, EngineFailed, UnknownModality
from tests.engine.scripted_engine import ScriptedEngine, ask, has_room, outcomes, serving
from tests.engine.virtual_time import SpendingExecutor, VirtualExecutor, now, run_virtually


@pytest.mark.parametrize("poison", range(8))
def test_a_poisonous_item_fails_its_own_caller_and_none_of_its_mates(poison: int) -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={poison: ValueError("poison")})
        async with serving(engine.run) as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(8)])
        failure = ends.pop(poison)
        assert ends == [[10 * item] for item in range(8) if item != poison]
        assert isinstance(failure, EngineFailed)
        assert isinstance(failure.__cause__, ValueError)
        assert len(engine.batches) == 7  # 8, 4 + 4, 2 + 2, 1 + 1

    run_virtually(main)


@pytest.mark.parametrize(("size", "more"), [(1, 0), (2, 2), (3, 4), (4, 4), (5, 6), (8, 6), (9, 8)])
def test_a_poisonous_item_costs_no_more_calls_than_halving_down_to_it_and_its_neighbours(size: int, more: int) -> None:
    async def calls(poison: int) -> int:
        engine = ScriptedEngine(raises={poison: ValueError()})
        async with serving(engine.run, max_size=size) as batcher:
            await outcomes([ask(batcher, [item]) for item in range(size)])
        return len(engine.batches)

    assert max(run_virtually(partial(calls, poison)) for poison in range(size)) == 1 + more


def test_if_every_item_is_poisonous_each_caller_gets_an_error_of_its_own_and_the_next_is_served() -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={item: ValueError() for item in range(8)})
        async with serving(engine.run) as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(8)])
            assert [type(end) for end in ends] == [EngineFailed] * 8
            assert len({id(end) for end in ends}) == 8
            assert len(engine.batches) == 15
            assert (await batcher.submit([9])).results == [90]
            assert has_room(batcher)

    run_virtually(main)


def test_an_error_of_ours_reaches_the_caller_as_it_is() -> None:
    async def main() -> None:
        error = UnknownModality("no such modality")
        async with serving(ScriptedEngine(raises={1: error}).run) as batcher:
            assert await outcomes([ask(batcher, [1]), ask(batcher, [2])]) == [error, [20]]

    run_virtually(main)


def test_the_message_of_a_failure_names_its_kind_and_not_what_the_engine_said() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine(raises={1: ValueError("pixels of Jane Doe")}).run) as batcher:
            with pytest.raises(EngineFailed, match=r"^the network could not be run on this image \(ValueError\)$"):
                await batcher.submit([1])

    run_virtually(main)


def test_one_poisonous_item_fails_its_whole_upload_and_the_items_left_are_not_run() -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={2: ValueError()})
        async with serving(engine.run, max_size=4) as batcher:
            ends = await outcomes([ask(batcher, [1, 2, 3, 4, 5, 6]), ask(batcher, [20, 30, 40])])
            assert isinstance(ends[0], EngineFailed)
            assert ends[1] == [200, 300, 400]
        assert not {3, 4, 5, 6} & set(engine.items)

    run_virtually(main)


@pytest.mark.parametrize(("leaving", "last_batches"), [([3], [[2], [5]]), ([2, 3], [[5]])])
def test_a_caller_who_leaves_while_its_failed_batch_is_halved_is_not_run_again(
    leaving: list[int], last_batches: list[list[int]]
) -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={0: ValueError()})
        async with serving(engine.run, max_size=4) as batcher:
            calls = [ask(batcher, [item]) for item in range(4)]
            await asyncio.sleep(1.5)
            for item in leaving:
                calls[item].cancel()
            await outcomes(calls)
            await batcher.submit([5])
        assert engine.batches == [[0, 1, 2, 3], [0, 1], [0], [1], *last_batches]

    run_virtually(main)


@pytest.mark.parametrize("wrong", [lambda items: [], lambda items: [0] * (len(items) + 1), lambda items: items[:-1]])
def test_a_wrong_number_of_results_fails_all_in_the_batch_and_is_not_tried_again(wrong: object) -> None:
    assert callable(wrong)
    batches: list[Sequence[int]] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        batches.append(items)
        return list(wrong(items)) if 1 in items else items

    async def main() -> None:
        async with serving(run) as batcher:
            ends = await outcomes([ask(batcher, items) for items in ([1, 2], [3], [4])])
            assert [type(end) for end in ends] == [EngineFailed] * 3
            assert len({id(end) for end in ends}) == 3
            assert len(batches) == 1
            assert (await batcher.submit([5])).results == [5]

    run_virtually(main)


def test_an_engine_that_gives_nothing_at_all_fails_its_callers_and_the_batcher_goes_on() -> None:
    async def main() -> None:
        answers: list[list[int] | None] = [None, None, None, [7]]
        async with serving(lambda items: cast("list[int]", answers.pop(0))) as batcher:
            assert [type(end) for end in await outcomes([ask(batcher, [1]), ask(batcher, [2])])] == [EngineFailed] * 2
            assert (await batcher.submit([3])).results == [7]

    run_virtually(main)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, TimeoutError, GeneratorExit, RuntimeError])
def test_no_kind_of_error_leaves_a_caller_hanging(kind: type[BaseException]) -> None:
    async def main() -> None:
        async with serving(ScriptedEngine(raises={1: kind()}).run) as batcher:
            (end,) = await outcomes([ask(batcher, [1])])
            assert isinstance(end, EngineFailed if issubclass(kind, Exception) else DeviceLost)

    run_virtually(main)


# --- out of memory --------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def _wrapped() -> EngineFailed:
    error = EngineFailed("the device could not run the batch")
    error.__cause__ = OutOfMemoryError()
    return error


@pytest.mark.parametrize("make", [MemoryError, OutOfMemoryError, _wrapped])
def test_out_of_memory_halves_the_batch_and_everyone_is_answered(
    make: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    batches: list[int] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        batches.append(len(items))
        if len(items) > 3:
            raise make()
        return items

    async def main() -> None:
        async with serving(run) as batcher:
            calls = [ask(batcher, [item]) for item in range(16)]
            assert await outcomes(calls) == [[item] for item in range(16)]
            assert batcher.max_size == 2

    run_virtually(main)
    assert batches == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # tried once with 8, once with 4: what was learned is kept
    assert caplog.messages == [f"out of memory with {n} items; batches now hold {n // 2} at most" for n in (8, 4)]


def test_an_odd_batch_without_memory_learns_the_larger_half() -> None:
    async def main() -> None:
        engine = ScriptedEngine(room=3)
        async with serving(engine.run, max_size=5) as batcher:
            await outcomes([ask(batcher, [item]) for item in range(5)])
            assert batcher.max_size == 3
        assert [len(batch) for batch in engine.batches] == [5, 2, 3]

    run_virtually(main)


def test_an_item_too_large_for_the_memory_alone_fails_and_batches_stay_as_large_as_they_were() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine(raises={1: MemoryError()}).run) as batcher:
            (end,) = await outcomes([ask(batcher, [1])])
            assert isinstance(end, EngineFailed)
            assert batcher.max_size == 8

    run_virtually(main)


def test_other_errors_do_not_make_batches_smaller() -> None:
    async def main() -> None:
        async with serving(ScriptedEngine(raises={1: ValueError()}).run) as batcher:
            await outcomes([ask(batcher, [item]) for item in range(8)])
            assert batcher.max_size == 8

    run_virtually(main)


class _Tensor:
    """Something large that a failed attempt holds."""


def test_the_memory_of_a_failed_attempt_is_free_before_the_next_one() -> None:
    held: list[weakref.ref[_Tensor]] = []
    alive: list[int] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        alive.append(sum(reference() is not None for reference in held))
        tensor = _Tensor()
        held.append(weakref.ref(tensor))
        if len(items) > 1:
            raise MemoryError
        return items

    async def main() -> None:
        async with serving(run) as batcher:
            await outcomes([ask(batcher, [item]) for item in range(4)])

    gc.disable()
    try:
        run_virtually(main)
    finally:
        gc.enable()
    assert alive == [0] * 6


@pytest.mark.parametrize("kind", [ValueError, EngineFailed])
def test_the_memory_of_an_item_that_failed_is_free_while_the_rest_runs(kind: type[Exception]) -> None:
    held: list[weakref.ref[_Tensor]] = []
    alive: list[int] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        alive.append(sum(reference() is not None for reference in held))
        tensor = _Tensor()
        held.append(weakref.ref(tensor))
        if 0 in items:
            raise kind("poison")
        return items

    async def main() -> None:
        async with serving(run) as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(3)])
            assert isinstance(ends[0], EngineFailed)

    gc.disable()
    try:
        run_virtually(main)
    finally:
        gc.enable()
    assert alive == [0] * 3


def test_what_batches_that_failed_took_is_not_taken_for_what_batches_cost() -> None:
    sizes: list[int] = []

    async def main() -> None:
        executor = SpendingExecutor()

        def run(items: Sequence[int]) -> Sequence[int]:
            sizes.append(len(items))
            if 0 in items and len(items) > 1:
                executor.spend(100.0)
                raise ValueError
            executor.spend(1.0)
            return items

        device = Device("virtual", executor=executor, clock=now)
        async with Batcher(run, device=device, max_size=4, max_wait_s=0, max_queued=8, clock=now) as batcher:
            for _ in range(3):  # so many runs of a size tell what it costs
                await outcomes([ask(batcher, [item]) for item in range(4)])
            sizes.clear()
            await outcomes([ask(batcher, [item]) for item in range(1, 5)])
        assert sizes == [4]

    run_virtually(main)


# --- the device is lost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_lost_device_answers_every_caller_and_refuses_new_ones(kind: type[BaseException]) -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={3: kind()})
        async with serving(engine.run, max_size=2) as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(8)])
            assert ends[:2] == [[0], [10]]
            assert [type(end) for end in ends[2:]] == [DeviceLost] * 6
            with pytest.raises(DeviceLost) as refusal:
                await batcher.submit([9])
            assert isinstance(refusal.value.__cause__, kind)
        assert len(engine.batches) == 2

    run_virtually(main)


def test_a_lost_device_is_lost_for_all_batchers_that_share_it() -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)
        bad, good = ScriptedEngine(raises={1: SystemExit()}), ScriptedEngine()
        async with (
            Batcher(bad.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now) as first,
            Batcher(good.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now) as second,
            Batcher(good.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now) as idle,
        ):
            ends = await outcomes([ask(first, [1]), ask(second, [2])])
            assert [type(end) for end in ends] == [DeviceLost] * 2
            with pytest.raises(DeviceLost) as refusal:
                await idle.submit([3])
            assert isinstance(refusal.value.__cause__, SystemExit)

    run_virtually(main)


def test_a_cuda_fault_is_no_poisonous_item_nothing_is_run_again_and_nobody_is_left_waiting() -> None:
    async def main() -> None:
        engine = ScriptedEngine(raises={3: RuntimeError("CUDA error: device-side assert triggered")})
        async with serving(engine.run, max_size=4) as batcher:
            ends = await outcomes([ask(batcher, [item]) for item in range(12)])
            assert [type(end) for end in ends] == [DeviceLost] * 12
            assert {str(end) for end in ends} == {"the device virtual is lost: device-side assert triggered"}
            assert len({id(end) for end in ends}) == 12
        assert len(engine.batches) == 1

    run_virtually(main)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_batcher_that_fails_by_a_bug_gives_the_device_up_and_leaves_its_trace_in_the_log(
    is_closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(1.0), clock=now)

        def clock() -> float:
            if device.turns.is_held:
                raise ZeroDivisionError
            return now()

        engine = ScriptedEngine()
        async with Batcher(engine.run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=clock) as batcher:
            calls = [ask(batcher, [item]) for item in (1, 2)]
            await asyncio.sleep(0)
            if is_closed:
                batcher.close_intake()
            assert [type(end) for end in await outcomes(calls)] == [DeviceLost] * 2
        async with asyncio.timeout(1):
            assert isinstance((await device.wait_failed()).__cause__, ZeroDivisionError)

    run_virtually(main)
    [record] = caplog.records
    assert record.message == "the batcher on virtual has failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_device_that_takes_no_work_any_more_is_lost() -> None:
    async def main() -> None:
        device = Device("gone")
        async with device:
            pass
        async with Batcher(
            ScriptedEngine().run, device=device, max_size=2, max_wait_s=0, max_queued=8, clock=now
        ) as batcher:
            (end,) = await outcomes([ask(batcher, [1])])
            assert isinstance(end, DeviceLost)
            assert isinstance(end.__cause__, RuntimeError)

    run_virtually(main)


# --- reports --------------------------------------------------------------------------------------------------------


def test_every_call_of_the_engine_is_reported() -> None:
    async def main() -> None:
        reports: list[BatchReport] = []
        engine = ScriptedEngine(raises={1: ValueError()})
        async with serving(engine.run, on_batch=reports.append) as batcher:
            busy = ask(batcher, [5])
            await asyncio.sleep(0.5)
            failing = ask(batcher, [1])
            await asyncio.sleep(0.25)
            calls = [busy, failing, ask(batcher, [2])]
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert reports == [
            BatchReport(size=1, ran_s=1.0, failed=False),
            BatchReport(size=2, ran_s=1.0, failed=True),
            BatchReport(size=1, ran_s=1.0, failed=True),
            BatchReport(size=1, ran_s=1.0, failed=False),
        ]
        assert not isinstance(ends[2], BaseException)
        assert (ends[2].queued_s, ends[2].ran_s, ends[2].batch_size) == (0.25, 2.0, 1)

    run_virtually(main)


def test_a_wrong_number_of_results_and_a_lost_device_are_reported_once_as_failed() -> None:
    async def main() -> None:
        reports: list[BatchReport] = []
        async with serving(lambda items: [], on_batch=reports.append) as batcher:
            assert [type(end) for end in await outcomes([ask(batcher, [1, 2])])] == [EngineFailed]
        async with serving(ScriptedEngine(raises={1: SystemExit()}).run, on_batch=reports.append) as batcher:
            await outcomes([ask(batcher, [1, 2])])
        assert [(report.size, report.failed) for report in reports] == [(2, True), (2, True)]

    run_virtually(main)


def test_a_listener_that_raises_hurts_nobody_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def listen(report: BatchReport) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with serving(ScriptedEngine().run, on_batch=listen) as batcher:
            assert await outcomes([ask(batcher, [1]), ask(batcher, [2])]) == [[10], [20]]
            assert (await batcher.submit([3])).results == [30]

    with caplog.at_level(logging.ERROR):
        run_virtually(main)
    assert [record.message for record in caplog.records] == ["a listener to batches failed"] * 2

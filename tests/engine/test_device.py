"""The device's thread, for real: these tests wait for events, never for a length of time."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.errors import DeviceLost, Overloaded
from tests.engine.no_threads import start_no_thread


def test_work_runs_in_the_devices_own_thread_while_the_event_loop_goes_on() -> None:
    go_on = threading.Event()

    async def main() -> None:
        began, loop = asyncio.Event(), asyncio.get_running_loop()

        def work() -> str:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(60)
            return threading.current_thread().name

        async with Device("cpu") as device:
            running = asyncio.create_task(device.run(work))
            await began.wait()
            assert not running.done()
            go_on.set()
            assert (await running).startswith("device-cpu")

    asyncio.run(main())


def test_one_thing_runs_at_a_time() -> None:
    both = threading.Barrier(2)

    async def main() -> None:
        async with Device("cpu") as device:
            meetings = [device.run(lambda: both.wait(0.2)) for _ in range(2)]
            ends = await asyncio.gather(*meetings, return_exceptions=True)
            assert [type(end) for end in ends] == [threading.BrokenBarrierError] * 2

    asyncio.run(main())


def test_work_that_raises_hands_its_error_to_its_caller_and_the_device_goes_on() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with Device("cpu") as device:
            with pytest.raises(ZeroDivisionError):
                await device.run(fail)
            assert device.failed is None
            assert await device.run(lambda: 7) == 7

    asyncio.run(main())


class Batch:
    """What a failed call held."""


def test_an_error_and_what_its_call_held_are_free_as_soon_as_nobody_looks_at_them() -> None:
    held: list[weakref.ref[Batch]] = []

    def fail() -> None:
        batch = Batch()
        held.append(weakref.ref(batch))
        raise ZeroDivisionError

    async def main() -> None:
        async with Device("cpu") as device:
            for run in (device.run, device.run_beside):
                with suppress(ZeroDivisionError):
                    await run(fail)
                await device.run(lambda: None)  # its thread has let go of what it ran before
            assert [batch() for batch in held] == [None, None]

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_work_may_return_an_exception() -> None:
    async def main() -> None:
        error = ValueError()
        async with Device("cpu") as device:
            assert await device.run(lambda: error) is error

    asyncio.run(main())


def test_work_that_raises_stop_iteration_leaves_nobody_hanging() -> None:
    async def main() -> None:
        async with Device("cpu") as device:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await device.run(lambda: next(iter(())))
            assert device.failed is None

    asyncio.run(main())


def test_work_that_ends_the_thread_ends_the_device_and_not_the_process() -> None:
    def leave() -> None:
        raise SystemExit

    async def main() -> None:
        async with Device("cpu") as device:
            for _ in range(2):
                with pytest.raises(DeviceLost, match="cpu") as refusal:
                    await device.run(leave)
                assert isinstance(refusal.value.__cause__, SystemExit)
            assert device.failed is not None
            assert isinstance(device.failed.__cause__, SystemExit)

    asyncio.run(main())


def test_a_cuda_fault_ends_the_device_and_those_who_watch_it_hear_why() -> None:
    def fault() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\npixels of Jane Doe")

    async def main() -> None:
        async with Device("cuda") as device:
            watching = asyncio.create_task(device.wait_failed())
            with pytest.raises(DeviceLost, match=r"^the device cuda is lost: an illegal memory access was \w+$"):
                await device.run(fault)
            assert await watching is device.failed
            with pytest.raises(DeviceLost) as refusal:
                await device.run(lambda: None)
            assert refusal.value is not device.failed
            assert isinstance(refusal.value.__cause__, RuntimeError)

    asyncio.run(main())


def test_only_the_first_reason_counts() -> None:
    async def main() -> None:
        device = Device("cuda")
        device.fail(RuntimeError(), "the first")
        device.fail(RuntimeError(), "the second")
        assert str(await device.wait_failed()) == "the device cuda is lost: the first"

    asyncio.run(main())


def test_a_device_tells_for_how_long_it_has_been_busy_with_what_it_runs() -> None:
    go_on, seconds = threading.Event(), [100.0]

    async def main() -> None:
        began, loop = asyncio.Event(), asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(60)

        async with Device("cpu", clock=lambda: seconds[0]) as device:
            assert device.busy_s == 0
            running = asyncio.create_task(device.run(work))
            await began.wait()
            seconds[0] = 107.5
            assert device.busy_s == 7.5
            go_on.set()
            await running
            assert device.busy_s == 0

    asyncio.run(main())


def test_what_runs_in_the_background_is_told_apart_from_batches() -> None:
    go_on, seconds = threading.Event(), [100.0]

    async def main() -> None:
        began, loop = asyncio.Event(), asyncio.get_running_loop()

        def step() -> None:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(60)

        async with Device("cpu", clock=lambda: seconds[0]) as device:
            running = asyncio.create_task(device.run(step, in_background=True))
            await began.wait()
            seconds[0] = 107.5
            assert (device.busy_s, device.background_s) == (0, 7.5)
            go_on.set()
            await running
            assert device.background_s == 0

    asyncio.run(main())


def test_a_device_tells_for_how_long_the_oldest_of_what_runs_side_by_side_has_been_running() -> None:
    leave, seconds = [threading.Event(), threading.Event()], [100.0]

    async def main() -> None:
        loop, began = asyncio.get_running_loop(), asyncio.Event()

        def work(number: int) -> None:
            loop.call_soon_threadsafe(began.set)
            assert leave[number].wait(60)

        async with Device("cpu", clock=lambda: seconds[0]) as device:
            running = []
            for number in range(2):
                running.append(asyncio.create_task(device.run_beside(partial(work, number))))
                await began.wait()
                began.clear()
                seconds[0] += 10
            assert device.busy_s == 20
            leave[0].set()
            await running[0]
            assert device.busy_s == 10
            leave[1].set()
            await running[1]
            assert device.busy_s == 0

    asyncio.run(main())


def test_work_for_which_no_thread_can_be_started_is_refused_for_now_and_never_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, done = threading.Event(), list[str]()

    async def main() -> None:
        began, loop = asyncio.Event(), asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(60)

        async with Device("cpu") as device:
            running = asyncio.create_task(device.run_beside(work))
            await began.wait()
            with monkeypatch.context() as patch:
                start_no_thread(patch)
                for run in (device.run_beside, device.run):
                    with pytest.raises(Overloaded, match="no thread"):
                        await run(lambda: done.append("refused"))
            go_on.set()
            await running
            for run in (device.run_beside, device.run):
                await run(lambda: done.append("later"))
            assert device.failed is None
        assert done == ["later", "later"]

    asyncio.run(main())


def test_what_a_device_refuses_is_not_kept_until_a_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tile:
        def run(self) -> None:
            raise AssertionError

    async def main() -> None:
        async with Device("cpu") as device:
            start_no_thread(monkeypatch)
            for run in (device.run_beside, device.run):
                tile = Tile()
                held = weakref.ref(tile)
                with pytest.raises(Overloaded):
                    await run(tile.run)
                del tile
                gc.collect()
                assert held() is None

    asyncio.run(main())


class Broken(ThreadPoolExecutor):
    """Refuses all work, as one does whose threads have ended."""

    def submit(self, _work: Callable[..., Any], /, *_args: Any, **_kwargs: Any) -> Future[Any]:
        raise BrokenExecutor


def test_a_device_whose_executor_is_broken_is_lost() -> None:
    async def main() -> None:
        async with Device("cpu", executor=Broken()) as device:
            with pytest.raises(DeviceLost, match="takes no work any more"):
                await device.run(lambda: None)
            assert device.failed is not None

    asyncio.run(main())


def test_a_batch_begins_when_every_slot_is_free() -> None:
    async def main() -> None:
        async with Device("cpu") as device:
            device.slots.take()
            device.slots.take()
            batch = asyncio.create_task(device.run(lambda: 7))
            for _ in range(2):
                await asyncio.sleep(0.01)
                assert not batch.done()
                device.slots.give_back()
            assert await batch == 7

    asyncio.run(main())


def test_a_device_that_was_left_refuses_and_its_threads_end() -> None:
    async def main() -> None:
        async with Device("short-lived") as device:
            await device.run(lambda: None)
            await device.run_beside(lambda: None)
        for run in (device.run, device.run_beside):
            with pytest.raises(DeviceLost):
                await run(lambda: None)

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("device-short-lived"):
            thread.join(60)
            assert not thread.is_alive()


def test_leaving_does_not_wait_for_work_that_is_still_running() -> None:
    go_on = threading.Event()

    async def main() -> None:
        began, loop = asyncio.Event(), asyncio.get_running_loop()

        def work() -> bool:
            loop.call_soon_threadsafe(began.set)
            return go_on.wait(60)

        async with Device("cpu") as device:
            running = asyncio.create_task(device.run(work))
            await began.wait()
        assert not running.done()
        go_on.set()
        assert await running

    asyncio.run(main())


def test_hundreds_of_callers_of_two_batchers_on_a_real_thread_some_of_whom_leave() -> None:
    busy = threading.Lock()

    def times(factor: int) -> Callable[[Sequence[int]], list[int]]:
        def run(items: Sequence[int]) -> list[int]:
            assert busy.acquire(blocking=False)
            try:
                return [factor * item for item in items]
            finally:
                busy.release()

        return run

    async def main() -> None:
        async with (
            Device("cpu") as device,
            Batcher(times(2), device=device, max_size=8, max_wait_s=0.001, max_queued=300) as doubling,
            Batcher(times(3), device=device, max_size=8, max_wait_s=0.001, max_queued=300) as tripling,
        ):
            calls = [
                asyncio.create_task(batcher.submit([number, number + 1]))
                for number in range(150)
                for batcher in (doubling, tripling)
            ]
            for position, call in enumerate(calls):
                if position % 5 == 0:
                    asyncio.get_running_loop().call_later(position / 1e5, call.cancel)
            ends = await asyncio.gather(*calls, return_exceptions=True)
        for position, end in enumerate(ends):
            if isinstance(end, asyncio.CancelledError):
                assert position % 5 == 0
                continue
            assert not isinstance(end, BaseException)
            number, factor = position // 2, 2 + position % 2
            assert end.results == [factor * number, factor * (number + 1)]

    asyncio.run(main())

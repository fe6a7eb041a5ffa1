"""Short work and long work in threads of their own."""

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from service.engine.pixel_pool import LOWER_BY, PixelPool
from service.errors import Overloaded, ShuttingDown
from tests.engine.no_threads import start_no_thread
from tests.waiting import until

PATIENCE_S = 60
FLOOD = 20


class Meeting:
    """Work that ends only when it is told to; `inside` counts the threads that do it at this moment."""

    def __init__(self) -> None:
        self._over, self._lock = threading.Event(), threading.Lock()
        self.inside, self.most = 0, 0

    def attend(self) -> str:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._over.wait(PATIENCE_S)
        with self._lock:
            self.inside -= 1
        return threading.current_thread().name

    def end(self) -> None:
        self._over.set()


def yes() -> bool:
    return True


def no() -> bool:
    return False


def flood(pool: PixelPool, work: Callable[[], str], is_long: Callable[[], bool] = no) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(pool.run(work, is_long=is_long)) for _ in range(FLOOD)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_short_work_finds_all_its_threads_however_much_long_work_there_is(threads: int) -> None:
    async def main() -> None:
        long, short = Meeting(), Meeting()
        with PixelPool(threads) as pool:
            floods = flood(pool, long.attend, is_long=yes)
            await until(lambda: long.inside == max(1, threads - 1))
            assert await pool.run(lambda: "answered") == "answered"
            floods += flood(pool, short.attend)
            await until(lambda: short.inside == threads)
            assert long.inside == max(1, threads - 1)
            short.end()
            long.end()
            names = set(await asyncio.gather(*floods))
        assert (short.most, long.most) == (threads, max(1, threads - 1))
        assert len(names) == threads + max(1, threads - 1)

    asyncio.run(main())


def test_long_work_may_be_given_more_threads() -> None:
    async def main() -> None:
        long = Meeting()
        with PixelPool(1, long=3) as pool:
            floods = flood(pool, long.attend, is_long=yes)
            await until(lambda: long.inside == 3)
            long.end()
            await asyncio.gather(*floods)
        assert long.most == 3

    asyncio.run(main())


def test_whether_work_is_long_is_asked_in_a_thread_and_once() -> None:
    asked: list[int] = []

    def is_long() -> bool:
        asked.append(threading.get_ident())
        return False

    async def main() -> None:
        with PixelPool(1) as pool:
            assert await pool.run(threading.get_ident, is_long=is_long) == asked[0]
        assert len(asked) == 1
        assert asked[0] != threading.get_ident()

    asyncio.run(main())


@pytest.mark.parametrize("is_long", [True, False])
def test_work_that_returns_nothing_is_done_once(is_long: bool) -> None:
    done: list[bool] = []

    async def main() -> None:
        with PixelPool(1) as pool:
            await pool.run(lambda: done.append(True), is_long=lambda: is_long)
        assert done == [True]

    asyncio.run(main())


@pytest.mark.parametrize("is_long", [True, False])
def test_what_work_raises_reaches_its_caller_and_nobody_else(is_long: bool) -> None:
    def fail() -> None:
        raise ValueError("mine")

    async def main() -> None:
        with PixelPool(1) as pool:
            with pytest.raises(ValueError, match="mine"):
                await pool.run(fail, is_long=lambda: is_long)
            with pytest.raises(ZeroDivisionError):
                await pool.run(fail, is_long=lambda: 1 / 0 > 0)
            assert await pool.run(lambda: 1, is_long=lambda: is_long) == 1

    asyncio.run(main())


@pytest.mark.parametrize("is_long", [True, False])
def test_work_of_a_caller_who_left_before_it_began_is_not_done(is_long: bool) -> None:
    done: list[str] = []

    async def main() -> None:
        meeting = Meeting()
        with PixelPool(1) as pool:
            holder = asyncio.create_task(pool.run(meeting.attend, is_long=lambda: is_long))
            await until(lambda: meeting.inside == 1)
            left = asyncio.create_task(pool.run(lambda: done.append("left"), is_long=lambda: is_long))
            stays = asyncio.create_task(pool.run(lambda: done.append("stays"), is_long=lambda: is_long))
            await asyncio.sleep(0)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
            meeting.end()
            await asyncio.gather(holder, stays)
        assert done == ["stays"]

    asyncio.run(main())


def test_of_long_work_what_ends_something_comes_first() -> None:
    done: list[str] = []

    async def main() -> None:
        meeting = Meeting()
        with PixelPool(1) as pool:
            holder = asyncio.create_task(pool.run(meeting.attend, is_long=yes))
            await until(lambda: meeting.inside == 1)
            tasks = [
                asyncio.create_task(pool.run(partial(done.append, name), is_long=yes, ends=name.startswith("end")))
                for name in ("begin 1", "end 1", "begin 2", "end 2")
            ]
            await until(lambda: len(pool._places._begins) + len(pool._places._ends) == 4)
            meeting.end()
            await asyncio.gather(holder, *tasks)
        assert done == ["end 1", "end 2", "begin 1", "begin 2"]

    asyncio.run(main())


def test_a_place_is_kept_until_the_work_of_a_caller_who_left_has_ended() -> None:
    async def main() -> None:
        meeting = Meeting()
        with PixelPool(1) as pool:
            left = asyncio.create_task(pool.run(meeting.attend, is_long=yes))
            await until(lambda: meeting.inside == 1)
            left.cancel()
            stays = asyncio.create_task(pool.run(lambda: meeting.inside, is_long=yes))
            await until(lambda: len(pool._places._begins) == 1)
            meeting.end()
            assert await stays == 0

    asyncio.run(main())


@pytest.mark.parametrize("is_long", [True, False])
def test_work_of_a_caller_who_left_is_not_kept_until_a_thread_is_free(is_long: bool) -> None:
    class Upload:
        """Megabytes, of which one can tell whether anybody holds them."""

    async def main() -> None:
        meeting = Meeting()
        with PixelPool(1) as pool:
            holders = [asyncio.create_task(pool.run(meeting.attend, is_long=lambda: is_long))]
            await until(lambda: meeting.inside == 1)
            upload = Upload()
            held = weakref.ref(upload)
            left = asyncio.create_task(pool.run(partial(id, upload), is_long=lambda: is_long))
            for _ in range(10):
                await asyncio.sleep(0)
            left.cancel()
            await asyncio.wait([left])
            del upload, left
            gc.collect()
            assert held() is None
            meeting.end()
            await asyncio.gather(*holders)

    asyncio.run(main())


def test_a_pool_that_is_shut_down_refuses_new_work_and_what_was_short_of_the_long_lane() -> None:
    async def main() -> None:
        meeting = Meeting()

        def is_long() -> bool:
            meeting.attend()
            return True

        with PixelPool(1) as pool:
            between = asyncio.create_task(pool.run(lambda: None, is_long=is_long))
            await until(lambda: meeting.inside == 1)
        meeting.end()
        for refused in (between, asyncio.create_task(pool.run(lambda: None))):
            with pytest.raises(ShuttingDown):
                await refused

    asyncio.run(main())


def test_work_for_which_no_thread_can_be_started_is_refused_for_now_and_never_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    async def main() -> None:
        meeting = Meeting()
        with PixelPool(2) as pool:
            holder = asyncio.create_task(pool.run(meeting.attend))
            await until(lambda: meeting.inside == 1)
            with monkeypatch.context() as patch:
                start_no_thread(patch)
                with pytest.raises(Overloaded, match="no thread"):
                    await pool.run(lambda: done.append("refused"))
            meeting.end()
            await holder
            await pool.run(lambda: done.append("later"))
        assert done == ["later"]

    asyncio.run(main())


def test_long_work_for_which_no_thread_can_be_started_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with PixelPool(1) as pool:
            await pool.run(no)  # the only thread that asks is there
            with monkeypatch.context() as patch:
                start_no_thread(patch)
                with pytest.raises(Overloaded, match="no thread"):
                    await pool.run(lambda: "refused", is_long=yes)
            async with asyncio.timeout(10):
                assert await pool.run(lambda: "later", is_long=yes) == "later"

    asyncio.run(main())


def test_a_place_is_given_back_in_the_event_loops_own_thread() -> None:
    async def main() -> None:
        with PixelPool(1) as pool:
            async with asyncio.timeout(10):
                assert await asyncio.gather(*flood(pool, lambda: "done", is_long=yes)) == ["done"] * FLOOD

    asyncio.run(main(), debug=True)  # where whoever wakes a waiter from another thread is told so


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_threads_for_long_work_are_nicer_than_all_others() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def main() -> None:
        own = niceness()
        with PixelPool(1) as pool:
            assert await pool.run(niceness, is_long=yes) == min(19, own + LOWER_BY)
            assert await pool.run(niceness) == niceness() == own

    asyncio.run(main())

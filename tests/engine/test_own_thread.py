"""Work in a thread of its own: answers and errors come back, and nothing waits for what hangs."""

import _thread
import asyncio
import threading
from collections.abc import Callable

import pytest

from service.engine.own_thread import Reading, in_own_thread
from tests.engine.no_threads import start_no_thread, start_threads_that_die
from tests.waiting import until


def test_what_it_returns_or_raises_comes_back() -> None:
    async def main() -> None:
        assert await in_own_thread(lambda: 2 * 21) == 42
        with pytest.raises(ZeroDivisionError):
            await in_own_thread(lambda: 1 / 0)

    asyncio.run(main())


def test_the_loop_ends_while_what_nobody_waits_for_hangs() -> None:
    mended = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_own_thread(lambda: mended.wait(60))

    asyncio.run(main())
    assert not mended.is_set()
    mended.set()


def test_a_number_is_read_though_a_thread_that_should_have_read_it_never_began(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(lambda: 7, prompt_s=0.05)
    with monkeypatch.context() as patch:
        start_threads_that_die(patch)
        assert reading.last() == 0
    asyncio.run(until(lambda: reading.last() == 7))


def test_a_thread_that_begins_late_leaves_the_reading_to_the_one_that_was_started_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late: list[Callable[[], None]] = []
    numbers = iter([7, 8])
    reading = Reading(lambda: next(numbers), prompt_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", lambda run, _arguments: late.append(run))
        assert [reading.last(), reading.last()] == [0, 0]
    first, second = late
    first()
    second()
    assert next(numbers) == 8


@pytest.mark.timeout(20)
def test_a_thread_that_never_says_that_it_has_started_stops_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it finds no memory; whoever waits for it hears so."""

    async def main() -> None:
        with monkeypatch.context() as patch:
            start_threads_that_die(patch)
            with pytest.raises(RuntimeError, match="has not begun"):
                await in_own_thread(lambda: None)
        assert await in_own_thread(lambda: 42) == 42

    asyncio.run(main())


def test_if_no_thread_can_be_started_whoever_asks_hears_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            start_no_thread(patch)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await in_own_thread(lambda: 42)
        assert await in_own_thread(lambda: 42) == 42

    asyncio.run(main())


def test_a_number_is_read_each_time() -> None:
    numbers = iter([7, 8])
    reading = Reading(lambda: next(numbers), prompt_s=60)
    assert [reading.last(), reading.last()] == [7, 8]


def test_a_number_that_cannot_be_read_is_what_it_was() -> None:
    answers = iter([7])

    def read() -> int:
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError("CUDA error: unspecified launch failure") from None

    reading = Reading(read, prompt_s=60)
    assert [reading.last(), reading.last()] == [7, 7]


def test_a_number_for_which_no_thread_can_be_started_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([7, 8])
    reading = Reading(lambda: next(numbers), prompt_s=60)
    assert reading.last() == 7
    with monkeypatch.context() as patch:
        start_no_thread(patch)
        assert reading.last() == 7
    assert reading.last() == 8


def test_a_number_whose_reading_hangs_is_what_it_was_and_is_read_by_one_thread_at_a_time() -> None:
    hangs, mended = threading.Event(), threading.Event()
    hanging: list[int] = []

    def read() -> int:
        if hangs.is_set():
            hanging.append(threading.get_ident())
            mended.wait(60)
            return 2
        return 1

    async def main() -> None:
        reading = Reading(read)
        await until(lambda: reading.last() == 1)
        hangs.set()
        assert [reading.last() for _ in range(5)] == [1] * 5
        assert len(hanging) == 1
        mended.set()
        await until(lambda: reading.last() == 2)

    asyncio.run(main())

"""Work in a thread of its own: answers and errors come back, and nothing waits for what hangs."""

import asyncio
import threading

import pytest

from service.engine.own_thread import in_own_thread


def test_what_it_returns_or_raises_comes_back() -> None:
    async def main() -> None:
        assert await in_own_thread(lambda: 2 * 21, "answer") == 42
        with pytest.raises(ZeroDivisionError):
            await in_own_thread(lambda: 1 / 0, "error")

    asyncio.run(main())


def test_the_loop_ends_while_what_nobody_waits_for_hangs() -> None:
    mended = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_own_thread(lambda: mended.wait(60), "hangs")

    asyncio.run(main())
    assert not mended.is_set()
    mended.set()

"""Counting uploads, and ending them when the server goes away."""

import asyncio

import pytest

from service.api.traffic import Traffic
from service.errors import ShuttingDown

pytestmark = pytest.mark.anyio


async def test_uploads_count_while_they_are_in_flight() -> None:
    traffic = Traffic()
    async with traffic.upload(), traffic.upload():
        assert traffic.in_flight == 2
    assert traffic.in_flight == 0


async def test_idle_is_waited_for_until_the_last_upload_is_answered() -> None:
    traffic = Traffic()
    async with asyncio.timeout(1):
        await traffic.wait_idle()  # nothing has come yet
    async with traffic.upload():
        async with traffic.upload():
            waiting = asyncio.create_task(traffic.wait_idle())
        await asyncio.sleep(0.01)
        assert not waiting.done()
    async with asyncio.timeout(1):
        await waiting


async def test_an_upload_that_fails_is_in_flight_no_more() -> None:
    traffic = Traffic()
    with pytest.raises(ValueError, match="broken"):
        async with traffic.upload():
            raise ValueError("broken")
    async with asyncio.timeout(1):
        await traffic.wait_idle()


async def test_draining_lets_an_upload_finish() -> None:
    traffic = Traffic()
    async with traffic.upload():
        traffic.drain(10)
        assert traffic.is_draining
        await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await traffic.wait_idle()


async def test_an_upload_that_outlasts_the_drain_is_ended() -> None:
    traffic = Traffic()

    async def upload() -> None:
        async with traffic.upload():
            traffic.drain(0.01)
            await asyncio.sleep(10)

    with pytest.raises(ShuttingDown):
        await upload()
    assert traffic.in_flight == 0


async def test_an_upload_that_comes_during_the_drain_gets_no_more_time_than_the_others() -> None:
    traffic = Traffic()
    traffic.drain(0.01)
    with pytest.raises(ShuttingDown):
        async with traffic.upload():
            await asyncio.sleep(10)


async def test_draining_twice_does_not_prolong_the_first() -> None:
    traffic = Traffic()

    async def upload() -> None:
        async with traffic.upload():
            traffic.drain(0.01)
            traffic.drain(10)
            await asyncio.sleep(5)

    with pytest.raises(ShuttingDown):
        await upload()


async def test_a_drain_can_be_shortened() -> None:
    traffic = Traffic()

    async def upload() -> None:
        async with traffic.upload():
            traffic.drain(10)
            traffic.drain(0.01)
            await asyncio.sleep(5)

    async with asyncio.timeout(2):
        with pytest.raises(ShuttingDown):
            await upload()


async def test_an_uploads_own_timeout_is_not_taken_for_the_drains_end() -> None:
    traffic = Traffic()
    with pytest.raises(TimeoutError):
        async with traffic.upload(), asyncio.timeout(0.01):
            await asyncio.sleep(10)

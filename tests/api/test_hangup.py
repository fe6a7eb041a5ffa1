"""A caller who hangs up while he waits."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.hangup import unless_hung_up

pytestmark = pytest.mark.anyio


class Caller:
    """Hangs up when told to."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()

    async def receive(self) -> Message:
        await self.has_left.wait()
        return {"type": "http.disconnect"}


async def test_a_patient_caller_gets_the_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await unless_hung_up(Caller().receive, work()) == 7


async def test_an_error_reaches_the_caller_as_it_is() -> None:
    async def work() -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await unless_hung_up(Caller().receive, work())


async def test_a_refusal_does_not_wait_for_the_turns_of_others() -> None:
    async def work() -> int:
        raise ValueError("full")

    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "had its turn")
    with pytest.raises(ValueError, match="full"):
        await unless_hung_up(Caller().receive, work())
    assert others == []


async def test_the_work_of_a_caller_who_leaves_is_cancelled() -> None:
    caller = Caller()
    ends: list[str] = []

    async def work() -> None:
        try:
            caller.has_left.set()
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    with pytest.raises(ClientDisconnect):
        await unless_hung_up(caller.receive, work())
    assert ends == ["cancelled"]


async def test_being_cancelled_itself_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(unless_hung_up(Caller().receive, asyncio.sleep(10)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == before


async def test_a_cancellation_from_outside_is_not_taken_for_the_callers_leaving_at_the_same_moment() -> None:
    caller = Caller()
    waiting = asyncio.create_task(unless_hung_up(caller.receive, asyncio.sleep(10)))
    await asyncio.sleep(0.01)
    caller.has_left.set()
    while not waiting.cancelling():  # noqa: ASYNC110 -- until that very turn of the loop
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()

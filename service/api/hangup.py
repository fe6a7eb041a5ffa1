"""Cancels the work for a caller who hangs up, so that it costs nobody anything."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


async def unless_hung_up(receive: Receive, work: Awaitable[T]) -> T:
    """Return what `work` returns, or raise what it raises; cancel it if the caller hangs up first.

    Call this once the request's body has been read: until then its bytes come through the same `receive`. `work` begins
    at once and in this task, so that in a burst a refusal does not wait for the turns of all the others.

    Raises:
        ClientDisconnect: the caller hung up; `work` has ended.
    """
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 -- coroutines run in tasks
    cancelled_before = working.cancelling()
    watching = asyncio.create_task(_hang_up(receive, working))
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done() and working.uncancel() <= cancelled_before:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def _hang_up(receive: Receive, working: asyncio.Task[object]) -> None:
    """Cancel `working` when the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    working.cancel()

"""Uploads that find the queue full, before the framework has looked at them."""

import asyncio
from collections.abc import Callable
from typing import cast

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.api.early_refusal import EarlyRefusal
from service.api.exchange import Exchange
from service.api.request_context import RequestContext
from service.errors import (
    AlnetError,
    DeviceLost,
    KeyNeeded,
    NotReady,
    Overloaded,
    RateLimited,
    ShuttingDown,
    UnknownModality,
)

pytestmark = pytest.mark.anyio


async def route(_request: object) -> PlainTextResponse:
    return PlainTextResponse("the route")


def let_all_in(_request: Request) -> None:
    """Ask nobody for a key."""


def client(
    error: AlnetError | None, let_in: Callable[[Request], None] = let_all_in
) -> tuple[httpx.AsyncClient, list[Exchange], list[str]]:
    """Return a client of an app that asks, for each upload, whether to raise `error`, and what it is asked."""
    asked: list[str] = []
    finished: list[Exchange] = []

    def admit(modality: str, _ahead: int) -> None:
        asked.append(modality)
        if error is not None:
            raise error

    uploads = Route("/segment/{modality}", route, methods=["POST"])
    early = EarlyRefusal(PlainTextResponse("the app"), route=uploads, let_in=let_in, admit=admit)
    app = RequestContext(early, is_draining=lambda: False, on_answered=finished.append)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test"), finished, asked


async def test_an_upload_that_finds_the_queue_full_is_refused_whatever_it_asks_for() -> None:
    caller, finished, asked = client(Overloaded("64 uploads wait already", retry_after_s=2.5))
    async with caller:
        answer = await caller.post("/segment/retina?threshold=7", content=b"no image", headers={"Accept": "x/y"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert asked == ["retina"]
    [exchange] = finished
    assert (exchange.route, exchange.modality, exchange.problem) == ("/segment/{modality}", "retina", "overloaded")


@pytest.mark.parametrize(
    "error",
    [None, UnknownModality("which?"), NotReady("loading"), ShuttingDown("bye"), DeviceLost("gone")],
    ids=lambda error: type(error).__name__,
)
async def test_everything_else_is_left_to_the_route(error: AlnetError | None) -> None:
    caller, _, _ = client(error)
    async with caller:
        assert (await caller.post("/segment/retina")).text == "the app"


@pytest.mark.parametrize(
    "error", [KeyNeeded("which?"), RateLimited("too many")], ids=lambda error: type(error).__name__
)
async def test_who_may_not_ask_hears_nothing_of_the_queue(error: AlnetError) -> None:
    def let_in(_request: Request) -> None:
        raise error

    caller, finished, asked = client(Overloaded("full"), let_in)
    async with caller:
        answer = await caller.post("/segment/retina")
    assert answer.json()["detail"] == str(error)
    assert asked == []
    assert [(one.route, one.modality) for one in finished] == [("/segment/{modality}", "retina")]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/segment/retina"), ("POST", "/segment/"), ("POST", "/segment/a/b"), ("GET", "/livez")]
)
async def test_only_uploads_are_refused(method: str, path: str) -> None:
    caller, _, asked = client(Overloaded("full"))
    async with caller:
        assert (await caller.request(method, path)).text == "the app"
    assert asked == []


async def test_of_a_burst_those_are_refused_that_the_queue_has_no_room_for_before_the_others_are_worked_on() -> None:
    events: list[str] = []

    def admit(_modality: str, ahead: int) -> None:
        if ahead >= 2:
            events.append("refused")
            raise Overloaded("full")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        events.append("worked on")
        await PlainTextResponse("the app")(scope, receive, send)

    uploads = Route("/segment/{modality}", route, methods=["POST"])
    early = EarlyRefusal(app, route=uploads, let_in=let_all_in, admit=admit)
    context = RequestContext(early, is_draining=lambda: False, on_answered=lambda _: None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=context), base_url="http://test") as caller:
        answers = await asyncio.gather(*[caller.post("/segment/cell") for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    assert events == ["refused"] * 3 + ["worked on"] * 2


async def test_of_uploads_that_come_one_after_another_all_are_looked_at_before_any_is_worked_on() -> None:
    events: list[str] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        events.append("worked on")

    async def nothing(*_: object) -> Message:
        raise AssertionError("nobody reads or answers here")

    uploads = Route("/segment/{modality}", route, methods=["POST"])
    early = EarlyRefusal(
        app, route=uploads, let_in=let_all_in, admit=lambda _modality, _ahead: events.append("looked at")
    )

    async def upload(after_rounds: int) -> None:
        for _ in range(after_rounds):
            await asyncio.sleep(0)
        scope = {"type": "http", "method": "POST", "path": "/segment/cell", "headers": []}
        await early(scope, nothing, cast("Send", nothing))

    await asyncio.gather(*map(upload, range(20)))
    assert events == ["looked at"] * 20 + ["worked on"] * 20

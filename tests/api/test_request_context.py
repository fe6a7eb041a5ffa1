"""What every request gets, whatever becomes of it."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.exchange import CALLER_LEFT, Exchange
from service.api.request_context import RequestContext
from tests.api.client import fake_app, form, running
from tests.doubles import draw, png

pytestmark = pytest.mark.anyio


def around(
    app: ASGIApp, *, is_draining: Callable[[], bool] = lambda: False
) -> tuple[httpx.AsyncClient, list[Exchange]]:
    """Return a client of `app` inside the middleware, and the list of exchanges that it will have finished."""
    finished: list[Exchange] = []
    wrapped = RequestContext(app, is_draining=is_draining, on_answered=finished.append)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=wrapped), base_url="http://test"), finished


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("secret pixel 0x2a")


@pytest.mark.parametrize("path", ["/livez", "/nothing-here", "/models", "/metrics", "/openapi.json", "/", "/docs"])
async def test_every_answer_has_an_id_and_is_kept_out_of_caches(path: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.get(path)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["server-timing"].startswith("total;dur=")


@pytest.mark.parametrize("token", ["a", "Case-12_3.b", "x" * 64])
async def test_a_sane_id_of_the_callers_is_kept(token: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/livez", headers={"X-Request-ID": token})
    assert answer.headers["x-request-id"] == token


@pytest.mark.parametrize("token", ["", "x" * 65, "a b", "a;b", "line\tbreak", "<script>", "ä".encode("latin-1")])
async def test_any_other_id_is_replaced(token: str | bytes) -> None:
    async with running(fake_app()) as client:
        answer = await client.get(
            "/livez", headers=[(b"X-Request-ID", token.encode() if isinstance(token, str) else token)]
        )
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_a_bug_is_answered_with_a_problem_that_shows_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    client, finished = around(broken)
    async with client:
        answer = await client.post("/", content=b"body")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:alnet:problem:internal-error"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "ValueError" in caplog.text
    assert finished[0].status == 500


async def test_a_bug_in_the_middle_of_an_answer_breaks_it_off() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")

    client, finished = around(half)
    with pytest.raises(ValueError, match="broken"):
        async with client:
            await client.get("/")
    assert len(finished) == 1


async def test_a_caller_who_got_no_answer_is_counted_as_one_who_left() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    finished: list[Exchange] = []
    context = RequestContext(silent, is_draining=lambda: False, on_answered=finished.append)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent to a caller who left")

    await context({"type": "http", "method": "GET", "headers": []}, receive, send)
    assert finished[0].status == CALLER_LEFT


async def test_while_draining_connections_end_with_their_answer() -> None:
    client, _ = around(PlainTextResponse("bye"), is_draining=lambda: True)
    async with client:
        answer = await client.get("/")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("is_draining", "headers", "expected"),
    [
        (True, {}, [0, 1, 2]),
        (False, {"Connection": "close"}, [0, 1, 2]),
        (False, {"Connection": "close", "Expect": "100-continue"}, []),
        (True, {"Expect": "100-continue"}, []),
        (False, {}, []),
    ],
)
async def test_a_body_that_nobody_wants_is_taken_in_before_the_connection_closes(
    is_draining: bool, headers: dict[str, str], expected: list[int]
) -> None:
    taken: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for i in range(3):
            taken.append(i)
            yield b"x"

    client, _ = around(PlainTextResponse("bye"), is_draining=lambda: is_draining)
    async with client:
        answer = await client.post("/", content=body(), headers=headers)
    assert answer.text == "bye"
    assert taken == expected


@pytest.mark.parametrize(("reads", "expected"), [(True, None), (False, "close")])
async def test_a_connection_ends_with_the_answer_to_a_body_that_was_never_asked_for(
    reads: bool, expected: str | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads:
            await receive()
        await PlainTextResponse("no")(scope, receive, send)

    client, _ = around(app)
    async with client:
        answer = await client.post("/", content=b"x", headers={"Expect": "100-continue"})
    assert answer.headers.get("connection") == expected


async def test_an_answer_does_not_wait_for_the_body_that_nobody_wants() -> None:
    happened: list[object] = []

    async def receive() -> Message:
        happened.append("body")
        return {"type": "http.request", "body": b"x", "more_body": happened.count("body") < 3}

    async def send(message: Message) -> None:
        happened.append(message.get("body", message["type"]))
        assert message.get("more_body", False) is (message.get("body") == b"bye")  # the end comes behind the body's

    context = RequestContext(PlainTextResponse("bye"), is_draining=lambda: False, on_answered=lambda _: None)
    await context({"type": "http", "method": "POST", "headers": [(b"connection", b"close")]}, receive, send)
    assert happened == ["http.response.start", b"bye", "body", "body", "body", b""]


async def test_the_access_line_has_these_fields_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        async with running(fake_app()) as client:
            answer = await client.post("/segment/retina?threshold=0.25", content=png(draw()))
    [record] = [record for record in caplog.records if record.name == "service.access"]
    line = json.loads(record.getMessage())
    assert line == {
        "time": line["time"],
        "route": "/segment/{modality}",
        "method": "POST",
        "status": 200,
        "bytes": len(answer.content),
        "seconds": line["seconds"],
        "request_id": answer.headers["x-request-id"],
    }
    assert line["seconds"] > 0


async def test_a_probe_that_finds_all_well_has_no_access_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        async with running(fake_app()) as client:
            for path in ("/livez", "/readyz"):
                assert (await client.get(path)).status_code == 200
                assert (await client.put(path)).status_code == 405
    statuses = [
        json.loads(record.getMessage())["status"] for record in caplog.records if record.name == "service.access"
    ]
    assert statuses == [405, 405]


async def test_the_answer_to_head_has_no_bytes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        async with running(fake_app()) as client:
            assert (await client.head("/models")).content == b""
    [record] = [record for record in caplog.records if record.name == "service.access"]
    assert json.loads(record.getMessage())["bytes"] == 0


async def test_a_path_without_a_route_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        async with running(fake_app()) as client:
            await client.get("/patients/miller")
    assert "miller" not in caplog.text
    assert '"route": "unmatched"' in caplog.text


@pytest.mark.parametrize("image", [png(draw()), b"MARKER", b""])
async def test_nothing_that_a_caller_sends_comes_back_in_logs_metrics_or_errors(
    image: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"image": ("MARKER.png", image, "image/MARKER"), "MARKER": ("MARKER", b"MARKER", "MARKER/MARKER")}
    with caplog.at_level(logging.DEBUG, "service"):
        async with running(fake_app()) as client:
            answers = [
                await client.post("/segment/retina?MARKER=MARKER&threshold=0.5", files=files),
                await client.post("/segment/retina?threshold=MARKER", files=files),
                await client.post("/segment/MARKER", files=form(MARKER=b"MARKER"), headers={"Accept": "MARKER/MARKER"}),
                await client.post("/segment/retina", content=image, headers={"X-Request-ID": "MARKER!"}),
                await client.post("/MARKER", content=image),
            ]
            metrics = (await client.get("/metrics")).text
    assert all("MARKER" not in answer.text for answer in answers)
    assert "MARKER" not in metrics
    assert not [
        record for record in caplog.records if record.name.startswith("service") and "MARKER" in record.getMessage()
    ]

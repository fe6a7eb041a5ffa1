"""How long a connection may take to ask, when it is let go, and what is said of one that is refused.

In virtual time, over a transport that only notes.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from functools import partial

import pytest
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.api.cross_origin import cross_origin
from service.api.exchange import CALLER_LEFT, Exchange
from service.api.protocol import (
    HEAD_TIMEOUT_S,
    MAX_HEAD_BYTES,
    MOST_HEADERS,
    MOST_PARAMETERS,
    MOST_PIPELINED,
    PIECE_BYTES,
    REST_TIMEOUT_S,
    Protocol,
)
from service.api.request_context import RequestContext
from service.api.unread import LEAST_BYTES, MOST_WAITING_BYTES, STALLED_AFTER_S, UnreadAnswer
from tests.engine.virtual_time import run_virtually
from tests.waiting import until

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")


class NotingTransport(asyncio.Transport):
    """Notes what is written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 1234)})
        self.written = b""
        self._closing = False

        self.unsent = 0
        self._aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = self._aborted = True

    def was_aborted(self) -> bool:
        return self._aborted

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after three times what a head may take."""
    await asyncio.sleep(3 * HEAD_TIMEOUT_S)
    await PlainTextResponse("late")(scope, receive, send)


def connect(app: ASGIApp | None = None, *, origins: tuple[str, ...] = ()) -> tuple[Protocol, NotingTransport]:
    config = uvicorn.Config(
        app or PlainTextResponse("hello"), http=Protocol, ws="none", log_config=None, timeout_keep_alive=75
    )
    config.load()
    state = ServerState()
    state.default_headers = [DATE]  # as the server renews it each second
    protocol = Protocol(config, state, {}, asyncio.get_running_loop(), origins=origins)
    transport = NotingTransport()
    protocol.connection_made(transport)
    return protocol, transport


def reads_no_more(protocol: Protocol) -> bool:
    return protocol.flow.read_paused


def timers() -> list[asyncio.TimerHandle]:
    """Return what the running loop still means to do."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


async def drip(protocol: Protocol, transport: NotingTransport, piece: Callable[[int], bytes]) -> float:
    """Send a piece each second until the connection is closed; return after how many seconds it was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for second in range(60):
        if transport.is_closing():
            break
        protocol.data_received(piece(second))
        await asyncio.sleep(1)
    return loop.time() - began


def test_a_whole_answer_is_sent_before_it_is_logged_and_counted() -> None:
    written: list[bytes] = []

    async def main() -> None:
        app = RequestContext(
            PlainTextResponse("hello"),
            is_draining=lambda: False,
            on_answered=lambda _: written.append(transport.written),
        )
        protocol, transport = connect(app)
        protocol.data_received(REQUEST)
        await asyncio.sleep(1)
        protocol.connection_lost(None)

    run_virtually(main)
    assert [answer.endswith(b"hello") for answer in written] == [True]


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async def main() -> None:
        _, transport = connect()
        await asyncio.sleep(HEAD_TIMEOUT_S - 1)
        assert not transport.is_closing()
        await asyncio.sleep(2)
        assert transport.is_closing()
        assert transport.written == b""

    run_virtually(main)


@pytest.mark.parametrize(
    "piece",
    [
        lambda second: b"GET / HTTP/1.1\r\n" if second == 0 else b"X: y\r\n",
        lambda second: REQUEST[second : second + 1],
        lambda _second: b"\r\n",
    ],
    ids=["header by header", "byte by byte", "blank lines"],
)
@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first request", "second request"])
def test_a_head_that_drips_in_is_too_late(piece: Callable[[int], bytes], before: bytes) -> None:
    async def main() -> None:
        protocol, transport = connect()
        if before:
            protocol.data_received(before)
            await asyncio.sleep(5)
        transport.written = b""
        assert await drip(protocol, transport, piece) == pytest.approx(HEAD_TIMEOUT_S, abs=1.01)
        assert transport.written.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in transport.written
        protocol.connection_lost(None)

    run_virtually(main)


def test_a_connection_between_two_requests_may_rest_for_longer_than_a_head_may_take() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST)
        await asyncio.sleep(70)
        assert not transport.is_closing()
        transport.written = b""
        protocol.data_received(REQUEST)
        await asyncio.sleep(1)
        assert transport.written.endswith(b"hello")
        await asyncio.sleep(76)
        assert transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_a_body_may_take_longer_than_a_head() -> None:
    async def main() -> None:
        protocol, transport = connect(slow)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(1)
            protocol.data_received(b"xxxxx")
        await asyncio.sleep(20)
        assert transport.written.endswith(b"late")
        protocol.connection_lost(None)

    run_virtually(main)


def test_half_a_head_behind_a_request_does_not_break_into_its_answer() -> None:
    async def main() -> None:
        protocol, transport = connect(slow)
        protocol.data_received(REQUEST + b"GET /")
        await asyncio.sleep(3 * HEAD_TIMEOUT_S - 0.5)
        assert transport.written == b""
        assert not transport.is_closing()
        await asyncio.sleep(1)
        assert transport.written.startswith(b"HTTP/1.1 200 ")
        assert transport.written.endswith(b"late")
        await asyncio.sleep(HEAD_TIMEOUT_S)
        assert transport.is_closing()
        assert b"HTTP/1.1 408 " in transport.written
        protocol.connection_lost(None)

    run_virtually(main)


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        (b"\0garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX-A: " + b"y" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
    ],
    ids=["no HTTP", "too long a head", "a broken body", "another HTTP"],
)
@pytest.mark.parametrize("requests", [1, 2])
def test_what_cannot_be_parsed_is_refused_behind_the_answers_to_what_came_before(
    behind: bytes, status: int, requests: int
) -> None:
    async def main() -> None:
        protocol, transport = connect(slow)
        protocol.data_received(REQUEST * requests + behind)
        protocol.data_received(REQUEST)  # of which nothing can be said any more
        assert not protocol._intake.unparsed
        await asyncio.sleep(3 * HEAD_TIMEOUT_S * (requests + 1))
        answers = re.findall(rb"HTTP/1\.1 (\d+) ", transport.written)
        assert answers == [b"200"] * requests + [b"%d" % status]
        assert transport.is_closing()
        protocol.connection_lost(None)
        assert timers() == []

    run_virtually(main)


def test_a_body_that_cannot_be_parsed_is_refused_at_once() -> None:
    async def main() -> None:
        protocol, transport = connect(slow)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n")
        assert transport.written.startswith(b"HTTP/1.1 400 ")
        assert transport.is_closing()
        protocol.connection_lost(None)
        await asyncio.sleep(3 * HEAD_TIMEOUT_S + 1)

    run_virtually(main)


@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["goodbye", "reset"])
def test_who_leaves_is_missed_by_the_request_that_is_being_answered(is_later: bool, error: Exception | None) -> None:
    """uvicorn tells only the last request of a connection."""
    messages = []

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        messages.append((await receive())["type"])
        messages.append((await receive())["type"])

    async def main() -> None:
        protocol, _ = connect(listen)
        for sent in [REQUEST, REQUEST] if is_later else [REQUEST * 2]:
            protocol.data_received(sent)
            await asyncio.sleep(1)
        assert not reads_no_more(protocol)
        protocol.connection_lost(error)
        await asyncio.sleep(1)
        assert messages == ["http.request", "http.disconnect"]

    run_virtually(main)


def test_of_many_requests_at_once_no_more_are_read_until_some_are_answered() -> None:
    async def main() -> None:
        protocol, _ = connect(slow)
        protocol.data_received(REQUEST * (1 + MOST_PIPELINED))
        assert not reads_no_more(protocol)
        protocol.data_received(REQUEST)
        assert reads_no_more(protocol)
        await asyncio.sleep(3 * HEAD_TIMEOUT_S + 1)
        assert not reads_no_more(protocol)
        protocol.connection_lost(None)
        await asyncio.sleep(3 * HEAD_TIMEOUT_S + 1)

    run_virtually(main)


SHORT = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
MANY = 2_000


def has_few_waiting(protocol: Protocol) -> bool:
    return len(protocol.pipeline) <= MOST_PIPELINED + PIECE_BYTES // len(SHORT) + 1


def test_of_thousands_of_requests_in_one_read_few_are_made_at_a_time_and_all_are_answered_in_turn() -> None:
    most_waiting = 0
    seen: list[int] = []

    async def main() -> None:
        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal most_waiting
            most_waiting = max(most_waiting, len(protocol.pipeline))
            seen.append(int(scope["path"][1:]))
            await PlainTextResponse("hello")(scope, receive, send)

        protocol, transport = connect(note)
        protocol.data_received(b"".join(SHORT.replace(b"/", b"/%d" % number, 1) for number in range(MANY)))
        assert has_few_waiting(protocol)
        await until(lambda: transport.written.count(b"hello") == MANY)
        assert has_few_waiting(protocol)
        assert not reads_no_more(protocol)
        protocol.connection_lost(None)

    run_virtually(main)
    assert seen == list(range(MANY))
    assert most_waiting <= MOST_PIPELINED + PIECE_BYTES // len(SHORT) + 1


@pytest.mark.parametrize("before", [b"", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nA body..."])
def test_nothing_more_is_read_while_requests_stay_as_they_came_although_an_app_listens(before: bytes) -> None:
    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async def main() -> None:
        protocol, _ = connect(listen)
        for _ in range(3):
            protocol.data_received(before + SHORT * MANY)
            await asyncio.sleep(1)
            assert has_few_waiting(protocol)
            assert reads_no_more(protocol)
        protocol.connection_lost(None)
        await asyncio.sleep(1)

    run_virtually(main)


def test_of_requests_that_come_with_the_end_of_a_large_body_few_are_made_at_a_time() -> None:
    async def main() -> None:
        protocol, _ = connect(slow)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50000\r\n\r\n" + b"x" * 49_999)
        protocol.data_received(b"x" + SHORT * MANY)
        assert protocol.pipeline
        assert has_few_waiting(protocol)
        protocol.connection_lost(None)
        await asyncio.sleep(3 * HEAD_TIMEOUT_S + 1)

    run_virtually(main)


def test_a_refusal_stands_behind_thousands_of_requests() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(SHORT * MANY + GARBAGE + SHORT)
        await until(transport.is_closing)
        answers = re.findall(rb"HTTP/1\.1 (\d+) ", transport.written)
        assert answers == [b"200"] * MANY + [b"400"]
        protocol.connection_lost(None)

    run_virtually(main)


def test_what_is_closed_after_an_answer_has_no_more_requests() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(SHORT.replace(b"Host:", b"Connection: close\r\nHost:") + SHORT * MANY)
        await asyncio.sleep(1)
        assert transport.is_closing()
        assert transport.written.count(b"hello") == 1
        protocol.connection_lost(None)

    run_virtually(main)


BODY = bytes(range(256)) * 10
MIXED = [
    SHORT,
    b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (BODY[:1000], BODY[1000:], b"")),
    b"POST / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: test\r\nX-A: " + b"y" * 3000 + b"\r\n\r\n",
] * 10


@pytest.mark.parametrize("size", [1, 7, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 50_000, 10**6])
def test_requests_are_the_same_in_whatever_pieces_they_come(size: int) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body: bytes = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        await asyncio.sleep(0.01)
        await Response(b"<%b>" % body)(scope, receive, send)

    async def main() -> list[bytes]:
        protocol, transport = connect(echo)
        sent = b"".join(MIXED)
        for at in range(0, len(sent), size):
            protocol.data_received(sent[at : at + size])
        await until(lambda: transport.written.count(b"HTTP/1.1 200 ") == len(MIXED) and transport.written[-1:] == b">")
        protocol.connection_lost(None)
        return re.findall(rb"\r\n\r\n<(.*?)>(?=HTTP|\Z)", transport.written, re.DOTALL)

    assert run_virtually(main) == [b"", BODY, BODY, b"abc", b""] * 10


UNREAD_BODY = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n"


def test_the_rest_of_a_body_that_was_answered_already_has_to_come_soon() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(UNREAD_BODY)
        await asyncio.sleep(1)
        assert transport.written.endswith(b"hello")
        for _ in range(int(REST_TIMEOUT_S) - 2):
            protocol.data_received(b"x")
            await asyncio.sleep(1)
        assert not transport.is_closing()
        await asyncio.sleep(3)
        assert transport.is_closing()
        protocol.connection_lost(None)
        assert timers() == []

    run_virtually(main)


def test_a_connection_may_rest_though_the_end_of_its_last_body_came_by_itself() -> None:
    async def main() -> None:
        protocol, transport = connect(read_all)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        protocol.data_received(b"0\r\n\r\n")
        await asyncio.sleep(2 * HEAD_TIMEOUT_S)
        assert transport.written.startswith(b"HTTP/1.1 200 ")
        assert not transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_half_a_chunk_of_that_rest_is_no_head_that_is_late() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(1)
        protocol.data_received(b"64\r\n")
        await asyncio.sleep(REST_TIMEOUT_S - 2)
        assert not transport.is_closing()
        await asyncio.sleep(3)
        assert transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_when_that_rest_has_come_the_connection_rests_as_any_other() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(UNREAD_BODY)
        await asyncio.sleep(1)
        protocol.data_received(b"x" * 100)
        await asyncio.sleep(70)
        assert not transport.is_closing()
        protocol.data_received(REQUEST)
        await asyncio.sleep(1)
        assert transport.written.count(b"hello") == 2
        protocol.data_received(UNREAD_BODY)
        await asyncio.sleep(1)
        protocol.data_received(b"x" * 100)
        await asyncio.sleep(76)
        assert transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_garbage_in_that_rest_gets_no_second_answer() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(1)
        protocol.data_received(b"no number\r\n")
        assert transport.written.count(b"HTTP/1.1") == 1
        assert transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_a_caller_who_does_not_take_its_answer_is_let_go() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST)
        await asyncio.sleep(1)
        transport.unsent = 10_000_000
        protocol.pause_writing()
        for _ in range(10):  # a slow line is no fault, also beyond the time for which a connection may rest
            transport.unsent -= LEAST_BYTES
            await asyncio.sleep(STALLED_AFTER_S)
        assert not transport.was_aborted()
        transport.unsent -= LEAST_BYTES - 1
        await asyncio.sleep(STALLED_AFTER_S + 1)
        assert transport.was_aborted()
        protocol.connection_lost(None)
        assert timers() == []

    run_virtually(main)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_last_bytes_do_not_keep_a_connection_that_ends_with_its_answer(is_resumed: bool) -> None:
    async def main() -> None:
        protocol, transport = connect()
        transport.unsent = 10_000
        protocol.data_received(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await asyncio.sleep(1)
        assert transport.is_closing()
        if is_resumed:
            protocol.pause_writing()
            protocol.resume_writing()
        await asyncio.sleep(STALLED_AFTER_S)
        assert transport.was_aborted()
        protocol.connection_lost(None)
        assert timers() == []

    run_virtually(main)


@pytest.mark.parametrize(("unsent", "is_aborted"), [(0, False), (10_000, True)])
def test_a_refusal_that_is_not_taken_keeps_no_connection_and_one_that_is_needs_nobody_to_watch(
    unsent: int, is_aborted: bool
) -> None:
    async def main() -> None:
        protocol, transport = connect()
        transport.unsent = unsent
        protocol.data_received(GARBAGE)
        assert transport.is_closing()
        await asyncio.sleep(STALLED_AFTER_S + 0.001)
        assert transport.was_aborted() is is_aborted
        protocol.connection_lost(None)
        assert timers() == []

    run_virtually(main)


def test_garbage_in_a_body_whose_answer_is_on_its_way_gets_no_second_answer() -> None:
    async def lingering(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        await asyncio.sleep(2)
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        protocol, transport = connect(lingering)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(1)
        protocol.data_received(b"no number\r\n")
        assert transport.is_closing()
        await asyncio.sleep(2)
        assert transport.written.count(b"HTTP/1.1 ") == 1
        protocol.connection_lost(None)

    run_virtually(main)


def test_a_request_that_comes_with_the_rest_of_a_refused_body_is_not_cut_off_as_one_that_rests() -> None:
    async def refuse_then_wait(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(100 if scope["method"] == "GET" else 0)
        await PlainTextResponse("done")(scope, receive, send)

    async def main() -> None:
        protocol, transport = connect(refuse_then_wait)
        protocol.data_received(UNREAD_BODY)
        await asyncio.sleep(1)
        protocol.data_received(b"x" * 100 + REQUEST)
        await asyncio.sleep(99)
        assert not transport.is_closing()
        await asyncio.sleep(2)
        assert transport.written.count(b"done") == 2
        protocol.connection_lost(None)

    run_virtually(main)


def test_a_caller_who_has_taken_its_answer_is_not_watched_any_more() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST)
        transport.unsent = 10_000_000
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.sleep(STALLED_AFTER_S + 1)
        assert not transport.is_closing()
        protocol.connection_lost(None)

    run_virtually(main)


def test_the_last_bytes_of_an_answer_do_not_keep_a_connection_that_rests() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST)
        transport.unsent = 10
        await asyncio.sleep(76)
        assert transport.is_closing()
        assert not transport.was_aborted()
        await asyncio.sleep(STALLED_AFTER_S)
        assert transport.was_aborted()
        protocol.connection_lost(None)

    run_virtually(main)


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["goodbye", "reset"])
@pytest.mark.parametrize(
    "sent", [b"", REQUEST[:10], REQUEST, UNREAD_BODY], ids=["opened", "half a head", "answered", "half a body"]
)
def test_a_connection_that_is_lost_is_let_go_at_once(sent: bytes, error: Exception | None) -> None:
    async def main() -> None:
        protocol, _ = connect()
        if sent:
            protocol.data_received(sent)
        await asyncio.sleep(1)
        assert timers()
        protocol.connection_lost(error)
        assert timers() == []

    run_virtually(main)


def test_nobody_watches_a_connection_that_is_lost_before_its_answer_is_taken() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST)
        await asyncio.sleep(1)
        transport.unsent = 10_000
        protocol.pause_writing()
        assert len(UnreadAnswer.waiting) == 1
        protocol.connection_lost(ConnectionResetError())
        assert timers() == []
        assert not UnreadAnswer.waiting

    run_virtually(main)


def test_of_requests_that_wait_nothing_is_kept_once_their_caller_has_left() -> None:
    async def main() -> None:
        protocol, _ = connect(slow)
        protocol.data_received(SHORT * MANY)
        assert protocol.pipeline
        assert protocol._intake.unparsed
        protocol.connection_lost(None)
        assert not protocol.pipeline
        assert not protocol._intake.unparsed
        await asyncio.sleep(3 * HEAD_TIMEOUT_S + 1)

    run_virtually(main)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b", 400),
        (b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c", 400),
        (b"GET / HTTP/1.1\r\nHost: a b/c@\xff", 400),
        (b"GET / HTTP/1.0\r\nHost: a:b", 400),
        (b"GET / HTTP/1.1\r\nHost:", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1]:8000 \t", 200),
        (b"GET / HTTP/1.0", 200),
    ],
)
def test_a_request_has_one_host(head: bytes, status: int) -> None:
    """An older one than HTTP/1.1 may have none (RFC 9112, section 3.2)."""

    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(head + b"\r\n\r\n")
        await asyncio.sleep(1)
        assert re.findall(rb"HTTP/1\.1 (\d+) ", transport.written) == [b"%d" % status]
        protocol.connection_lost(None)

    run_virtually(main)


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, the query and the names of the headers that were passed on; ask for the body before."""
    await receive()
    names = [name.decode() for name, _ in scope["headers"]]
    await PlainTextResponse(" ".join([scope["path"], scope["query_string"].decode(), *names]))(scope, receive, send)


def told(request: bytes) -> bytes:
    async def main() -> bytes:
        protocol, transport = connect(tell)
        protocol.data_received(request)
        await asyncio.sleep(1)
        protocol.connection_lost(None)
        await asyncio.sleep(1)
        return transport.written

    return run_virtually(main)


COOKIE = b'COOKIE: a="' + b"\\" * 60_000 + b'"'


@pytest.mark.parametrize("offer", [b"", b"\r\nConnection: upgrade\r\nUpgrade: h2c"])
def test_no_cookie_is_passed_on(offer: bytes) -> None:
    """Python before 3.11.10 takes seconds for such a one, and FastAPI parses them for every route."""
    answer = told(b"GET / HTTP/1.1\r\nHost: a\r\n" + COOKIE + offer + b"\r\nX-A: b\r\nCookie: c=d\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"cookie" not in answer
    assert answer.endswith(b" x-a")


def test_cookies_count_as_a_part_of_the_head() -> None:
    assert told(b"GET / HTTP/1.1\r\nHost: a\r\n" + (COOKIE + b"\r\n") * 2 + b"\r\n").startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("version", "is_heeded"), [(b"1.0", False), (b"1.1", True)])
def test_what_an_http_1_0_caller_expects_is_not_heeded(version: bytes, is_heeded: bool) -> None:
    head = b"POST / HTTP/%b\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n" % version
    answer = told(head + b"abc")
    assert (b"HTTP/1.1 100 " in answer) == is_heeded
    assert (b" expect" in answer) == is_heeded
    assert b"HTTP/1.1 200 " in answer


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://a", b"/  "),
        (b"HTTPS://a:1?x=/y", b"/ x=/y "),
        (b"http://a/b?c", b"/b c "),
        (b"/?http://a", b"/ http://a "),
    ],
)
def test_a_target_that_names_a_server_alone_is_its_root(target: bytes, path: bytes) -> None:
    assert told(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target).endswith(b"\r\n\r\n" + path + b"host")


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0"])
def test_another_version_of_http_is_refused(version: bytes) -> None:
    answer = told(b"GET / %b\r\nHost: a\r\n\r\n" % version)
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"this server speaks" in answer


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (b"gzip, chunked", 501),
        (b"gzip\r\nTransfer-Encoding: Chunked", 501),
        (b"identity,chunked\r\nConnection: upgrade\r\nUpgrade: h2c", 501),
        (b"chunked, gzip", 400),
        (b"gzip", 400),
        (b", Chunked", 200),
    ],
)
def test_a_body_may_be_in_chunks_but_not_encoded_further(codings: bytes, status: int) -> None:
    """RFC 9112, sections 6.1 and 6.3."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %b\r\n\r\n" % codings
    assert told(head + b"3\r\nabc\r\n0\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


GARBAGE = b"SEGMENT retina\r\n\r\n"
TOO_LONG = b"X-A: " + b"y" * 70_000 + b"\r\n\r\n"
NAMED = b"GET / HTTP/1.1\r\nHost: test\r\nX-Request-ID: mine\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "request_id"),
    [
        (GARBAGE, 400, "[0-9a-f]{32}"),
        (REQUEST[:20], 408, "[0-9a-f]{32}"),
        (NAMED + b"X-A: y\r\n", 408, "mine"),
        (NAMED + TOO_LONG, 431, "mine"),
        (NAMED + b"X-Request-ID\r\n\r\n", 400, "mine"),
        (NAMED.replace(b"mine", b"not\tsane") + TOO_LONG, 431, "[0-9a-f]{32}"),
        (NAMED + b"\r\n" + REQUEST[:20], 408, "[0-9a-f]{32}"),
        (NAMED + b"\r\n" + GARBAGE, 400, "[0-9a-f]{32}"),
        (NAMED + b"\r\n" + b"\r\n", 408, "[0-9a-f]{32}"),
    ],
)
def test_a_refusal_has_the_headers_of_every_answer_and_a_line_in_the_log(
    sent: bytes, status: int, request_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> bytes:
        protocol, transport = connect()
        for piece in sent.partition(b"\r\n\r\n"):
            protocol.data_received(piece)
            await asyncio.sleep(1)
        await asyncio.sleep(HEAD_TIMEOUT_S + 1)
        protocol.connection_lost(None)
        return transport.written

    with caplog.at_level(logging.INFO, "service.access"):
        *_, refusal = run_virtually(main).split(b"HTTP/1.1 ")
    head, _, body = refusal.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert re.fullmatch(request_id, headers["x-request-id"])
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["date"] == DATE[1].decode().lower()
    assert headers["server-timing"].startswith("total;dur=")
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body)["request_id"] == headers["x-request-id"]
    line = json.loads(caplog.records[-1].message)
    assert (line["status"], line["request_id"], line["route"]) == (status, headers["x-request-id"], "unmatched")
    assert line["bytes"] == len(body)


VIEWER, ELSEWHERE = "https://viewer.example.org", "https://elsewhere.example.org"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [((VIEWER,), VIEWER, VIEWER), (("*",), ELSEWHERE, "*"), ((VIEWER,), ELSEWHERE, None), ((), VIEWER, None)],
)
@pytest.mark.parametrize(
    ("end", "status"),
    [
        (TOO_LONG, 431),
        (b"Host: other\r\n\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_a_page_sees_a_refusal_if_it_would_see_an_answer(
    end: bytes, status: int, origins: tuple[str, ...], origin: str, allowed: str | None
) -> None:
    async def main(request: bytes) -> Headers:
        protocol, transport = connect(cross_origin(origins)(read_all), origins=origins)
        protocol.data_received(request)
        await asyncio.sleep(1)
        protocol.connection_lost(None)
        await asyncio.sleep(1)
        head, *lines = transport.written.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % (status if end in request else 200))
        return Headers(raw=[(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)])

    head = NAMED + b"Origin: %b\r\n" % origin.encode()
    refusal, answer = (run_virtually(partial(main, head + rest)) for rest in (end, b"\r\n"))
    assert refusal.get("access-control-allow-origin") == allowed
    for name in ("access-control-allow-origin", "access-control-expose-headers", "vary"):
        assert refusal.get(name) == answer.get(name)


CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nX-Request-ID: mine\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nabcdeXX", b"5\r\nabcde\r\nzz\r\n"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_body_that_is_no_body_is_one_request_with_the_status_that_its_caller_got(
    body: bytes, is_known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether or not the app has heard of the request by then; the app itself takes it for a caller who left."""
    finished: list[Exchange] = []

    async def main() -> bytes:
        protocol, transport = connect(app_of(read_all, finished))
        protocol.data_received(CHUNKED)
        if is_known:
            await asyncio.sleep(1)
        protocol.data_received(body)
        protocol.connection_lost(None)
        await asyncio.sleep(1)
        return transport.written

    with caplog.at_level(logging.INFO, "service.access"):
        written = run_virtually(main)
    assert written.startswith(b"HTTP/1.1 400 ")
    assert re.findall(rb"x-request-id: (.*)\r\n", written) == [b"mine"]
    [exchange] = finished
    assert (exchange.request_id, exchange.status, exchange.problem) == ("mine", 400, "bad-request")
    assert exchange.sent_bytes == len(written.partition(b"\r\n\r\n")[2])
    assert not caplog.records  # its line is written with the exchange


def test_a_body_of_tens_of_thousands_of_tiny_chunks_is_refused() -> None:
    """A single read may bring 40,000 of them, and each takes as long as one of thousands of bytes."""

    async def main(size: int) -> bytes:
        protocol, transport = connect(read_all)
        protocol.data_received(CHUNKED)
        chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
        for _ in range(60):
            protocol.data_received(chunk * 1000)
            await asyncio.sleep(0)
        if not transport.is_closing():
            protocol.data_received(b"0\r\n\r\n")
        await asyncio.sleep(1)
        protocol.connection_lost(None)
        await asyncio.sleep(1)
        return transport.written

    assert run_virtually(lambda: main(1)).startswith(b"HTTP/1.1 400 ")
    assert run_virtually(lambda: main(64)).startswith(b"HTTP/1.1 200 ")


def test_the_tiny_chunks_of_one_request_do_not_count_for_the_next() -> None:
    async def main() -> bytes:
        protocol, transport = connect(read_all)
        for _ in range(2):
            protocol.data_received(CHUNKED)
            for _ in range(30):
                protocol.data_received(b"1\r\nx\r\n" * 1000)
                await asyncio.sleep(0)
            protocol.data_received(b"0\r\n\r\n")
            await asyncio.sleep(1)
        protocol.connection_lost(None)
        return transport.written

    assert re.findall(rb"HTTP/1\.1 (\d+) ", run_virtually(main)) == [b"200", b"200"]


def test_what_was_counted_for_a_head_does_not_count_for_its_body() -> None:
    async def main() -> bytes:
        protocol, transport = connect(read_all)
        protocol.data_received(CHUNKED[:-2] + b"X-A: " + b"y" * 60_000 + b"\r\n\r\n")
        protocol.data_received(b"3;" + b"z" * 10_000)
        protocol.data_received(b"\r\nabc\r\n0\r\n\r\n")
        await asyncio.sleep(1)
        protocol.connection_lost(None)
        return transport.written

    assert run_virtually(main).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_a_head_may_be_as_large_as_the_largest(excess: int, status: int) -> None:
    value = b"y" * (MAX_HEAD_BYTES + excess - len(b"/path" + b"Host" + b"a" + b"X-A"))
    assert told(b"GET /path HTTP/1.1\r\nHost: a\r\nX-A: " + value + b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_a_head_that_does_not_end_is_refused_as_soon_as_it_is_too_large() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST[:-2] + b"X-A: ")
        protocol.data_received(b"y" * MAX_HEAD_BYTES)
        assert transport.written.startswith(b"HTTP/1.1 431 ")
        protocol.connection_lost(None)

    run_virtually(main)


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_a_head_has_only_so_many_headers(excess: int, status: int) -> None:
    headers = b"a:\r\n" * (MOST_HEADERS + excess - 1)
    assert told(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n").startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_so_has_one_that_offers_another_protocol(excess: int, status: int) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    headers = b"a:\r\n" * (MOST_HEADERS + excess - 3)
    assert told(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer + headers + b"\r\n").startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_a_query_has_only_so_many_parameters(excess: int, status: int) -> None:
    query = b"&".join([b"a="] * (MOST_PARAMETERS + excess))
    assert told(b"GET /?" + query + b" HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_who_sends_too_many_short_headers_is_not_told_of_their_length_alone() -> None:
    answer = told(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * MOST_HEADERS + b"\r\n")
    assert MOST_HEADERS == MOST_PARAMETERS
    assert b"over %d headers or parameters" % MOST_HEADERS in answer


def test_a_head_that_does_not_end_keeps_few_headers_in_memory() -> None:
    async def main() -> None:
        protocol, transport = connect()
        protocol.data_received(REQUEST[:-2] + b"a:\r\n" * (MAX_HEAD_BYTES // 8))
        assert len(protocol.headers) <= MOST_HEADERS + 1
        assert transport.written == b""  # a caller who still sends might lose the answer
        protocol.data_received(b"\r\n")
        assert transport.written.startswith(b"HTTP/1.1 431 ")
        protocol.connection_lost(None)

    run_virtually(main)


def test_nobody_gets_a_tunnel() -> None:
    assert told(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_length_of_more_digits_than_any_number_has_is_no_http() -> None:
    assert told(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"0" * 5000 + b"\r\n\r\n").startswith(
        b"HTTP/1.1 400 "
    )


def test_what_follows_the_last_chunk_is_no_header_of_the_request() -> None:
    sent = b"POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Late: b\r\n\r\n"
    assert told(sent).endswith(b"\r\n\r\n/a  host transfer-encoding")


def test_of_answers_that_wait_and_fill_the_memory_the_oldest_is_given_up() -> None:
    async def main() -> list[bool]:
        connections = [connect() for _ in range(4)]
        for protocol, transport in connections:
            transport.unsent = MOST_WAITING_BYTES // 3
            protocol.pause_writing()
        aborted = [transport.was_aborted() for _, transport in connections]
        for protocol, _ in connections:
            protocol.connection_lost(None)
        return aborted

    assert run_virtually(main) == [True, False, False, False]


def test_a_request_has_arrived_with_its_headers_however_long_those_before_it_take() -> None:
    finished: list[Exchange] = []

    async def main() -> float:
        go_on = asyncio.Event()

        async def wait(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await PlainTextResponse("hello")(scope, receive, send)

        protocol, _ = connect(app_of(wait, finished))
        protocol.data_received(REQUEST + REQUEST)
        await asyncio.sleep(0.01)
        came_before = time.monotonic()
        go_on.set()
        await until(lambda: len(finished) == 2)
        protocol.connection_lost(None)
        return came_before

    came_before = asyncio.run(main())
    assert [exchange.arrived < came_before for exchange in finished] == [True, True]


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body; a caller who leaves has the answer that nobody gets."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    status = 200 if message["type"] == "http.request" else CALLER_LEFT
    await PlainTextResponse("", status)(scope, receive, send)


def app_of(inner: ASGIApp, finished: list[Exchange]) -> ASGIApp:
    return RequestContext(inner, is_draining=lambda: False, on_answered=finished.append)

"""uvicorn's HTTP/1.1, but with heads that are bounded in size and time, and with a problem for what is not HTTP."""

import asyncio
import time
from http import HTTPStatus
from typing import Any, cast

import httptools
from starlette.datastructures import Headers
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api import heads, logs, problems
from service.api.alarm import Alarm
from service.api.cross_origin import headers_for
from service.api.exchange import Exchange, request_id_of
from service.api.intake import NOTHING, Intake
from service.api.joined_writes import JoinedWrites
from service.api.unread import UnreadAnswer

MAX_HEAD_BYTES = 64 * 1024
"""Limit of a request's line and headers together, and of a chunked body's trailers. The parser itself has none."""

MOST_HEADERS = 128
"""In a head. Each takes some 100 bytes of memory, however short it is: 64 KiB of the shortest took over a megabyte. The
proxy lets 100 through, and browsers send some 30."""

MOST_PARAMETERS = 128
"""In a query; only four mean anything. An upload keeps them while its body arrives: 64 KiB of them take 2 MB."""

HEAD_TIMEOUT_S = 10.0
"""From the opening of a connection, or from a later request's first byte, to the end of the request's head."""

REST_TIMEOUT_S = 30.0
"""How long the rest of a body, which nobody reads, may still arrive after an answer that came before its end."""

MOST_PIPELINED = 8
"""With up to this many requests behind the one being answered, reading and parsing go on: otherwise nobody would notice
that the caller left."""

MOST_PIECES, LEAST_PIECE_BYTES = 50_000, 32
"""A body in more pieces than this, with fewer bytes than this on average, is refused: each piece takes as long as one
of thousands of bytes, and a single read may bring 40,000 chunks of one byte."""

PIECE_BYTES = 4 * 1024
"""Bytes parsed at once, unless they all belong to one body: a waiting request of 25 bytes takes some 3 KB of memory,
and a single read may bring 10,000 of them."""


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn parses and keeps everything as it arrives, so a head that never ends would fill the memory. Here, bytes that
    are neither body nor the end of a head are counted, and a whole head is measured before its request begins. uvicorn
    also sets no time limit for a head, for the rest of a body that was answered before its end, or for a caller to take
    its answer: with a byte now and then, a caller could hold connections and memory for good.

    Requests may follow one another without waiting for answers. Then uvicorn tells only the last of them that the
    caller has left, and answers what it cannot parse in place of the request being answered. Here all of them are told,
    and what cannot be parsed is answered after them. uvicorn also makes requests of everything that one read brings,
    however many: here what follows the first few stays unparsed until there are answers.

    A caller who offers another protocol (`Upgrade: h2c`, as Java's client does by default) is answered in this one, as
    RFC 9110 allows. But the parser takes all that follows such a head for that other protocol, and uvicorn loses it. So
    the head is read again without the offer, and the body is then read as a body.

    Pages of `origins` may see what is answered here in the app's place, as they may see the app's answers.
    """

    _undigested = 0
    _body_left = 0
    _pieces = 0
    _body_bytes = 0
    _is_in_body = False
    _answered: RequestResponseCycle | None = None
    _refused_with: int | None = None

    def __init__(self, *connection: Any, origins: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(*connection, **more)
        self._origins = origins

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.transport = self._joined = JoinedWrites(transport)
        self.flow = self._intake = Intake(transport)
        self._head_alarm = Alarm(HEAD_TIMEOUT_S, self._end_late_head)
        self._rest_alarm = Alarm(REST_TIMEOUT_S, self._close)
        self._unread = UnreadAnswer(transport)
        self.headers = []
        self._head_alarm.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all requests, and release all that would keep the connection and its last request in memory."""
        super().connection_lost(exc)
        self.pipeline.clear()
        self._intake.unparsed = NOTHING
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._unset_keepalive_if_required()  # uvicorn does so only if the caller said goodbye
        self._head_alarm.stop()
        self._rest_alarm.stop()
        self._unread.let_go()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; refuse a head, or trailers, of more than MAX_HEAD_BYTES."""
        if self._refused_with is not None:
            return
        self._unset_keepalive_if_required()
        self._intake.add(data)
        self._parse_what_may_be()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._unset_keepalive_if_required()
        self._undigested = max(1, self._undigested)  # even if it came together with the end of the one before
        self._body_left = self._pieces = self._body_bytes = 0
        self._head_alarm.start()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header, unless there are too many; drop a chunked body's trailers, which mean nothing here."""
        if not self._is_in_body and len(self.headers) <= MOST_HEADERS:  # one too many is kept: it shows there were more
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request begin, unless its head is faulty or is to be read again."""
        if self.parser.should_upgrade():
            return
        self._undigested = 0
        self._head_alarm.stop()
        if (status := self._fault_of_head()) is not None:
            self._refuse(status)
            raise _Refused  # ends the parsing of what else has come
        self._take_up_head()
        super().on_headers_complete()
        if self.pipeline:  # it waits for those before it, but its time runs from now
            self._begun_exchange()
        self._is_in_body = True
        if 0 < len(self.pipeline) <= MOST_PIPELINED:
            self.flow.resume_reading()  # uvicorn has stopped it, and then does not notice that the caller leaves

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; the routes decide how much there may be in all."""
        self._undigested = 0
        self._body_left -= len(body)
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > MOST_PIECES and self._body_bytes < LEAST_PIECE_BYTES * self._pieces:
            self._refuse(400)
            raise _Refused  # ends the parsing of what else has come
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request's body; the parser also calls this for a head that is to be read again."""
        if self.parser.should_upgrade():
            return
        self._undigested, self._is_in_body = 0, False
        self._rest_alarm.stop()
        super().on_message_complete()
        self.headers = []  # those to come are another request's
        if self.cycle.response_complete:  # it was the rest of a body that nobody wanted: now the connection is idle
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """End an answer: go on with the next request, answer what was refused, or wait for the rest of a body."""
        self._joined.send()  # the caller need not wait for the line in the log and the metrics
        super().on_response_complete()
        self._watch_last_bytes()
        if self.transport.is_closing():
            return
        if self._intake.unparsed:
            self._parse_what_may_be()
            self.flow.resume_reading()
        if not self.cycle.response_complete:
            return
        if self._refused_with is not None:
            self._answer_refused(self._refused_with)
        elif self._is_in_body:
            self._rest_alarm.start()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Answer bytes that cannot be parsed, and close."""
        if not self.transport.is_closing() and self._refused_with is None:
            self._refuse(400)

    def pause_writing(self) -> None:
        """Wait for the caller to take what was sent, but not forever."""
        super().pause_writing()
        self._unread.watch()

    def resume_writing(self) -> None:
        """Go on sending: the caller has taken most of it."""
        super().resume_writing()
        self._unread.let_go()
        self._watch_last_bytes()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for too long once its last answer is taken, but do not wait forever."""
        super().timeout_keep_alive_handler()
        self._watch_last_bytes()

    def _fault_of_head(self) -> int | None:
        """Return the status with which the head just read is refused; None if there is no fault in it."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MOST_HEADERS or self.url.count(b"&") >= MOST_PARAMETERS:
            return 431
        return heads.fault_of(self.parser.get_http_version(), self.headers)

    def _take_up_head(self) -> None:
        """Reduce a sound head to what is heeded, before anybody parses more of it."""
        version = self.parser.get_http_version()
        heads.heed(version, self.headers)
        self.expect_100_continue = self.expect_100_continue and version == "1.1"
        self.url = heads.with_path(self.url)
        # `int` refuses thousands of digits, even if all are 0; whatever raises here counts as not HTTP
        self._body_left = int(dict(self.headers).get(b"content-length", 0))

    def _parse_what_may_be(self) -> None:
        """Parse what has come, but stop once as many requests wait as may."""
        self._intake.is_full = False
        try:
            while self._intake.unparsed and len(self.pipeline) <= MOST_PIPELINED:
                self._parse_piece()
        except httptools.HttpParserError:
            self.send_400_response("")
        if self.transport.is_closing() or self._refused_with is not None:
            return
        if self._undigested > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._undigested and not self._is_in_body:
            self._head_alarm.start()  # also for blank lines before a head, which the parser does not report
        if self._intake.unparsed:
            self._intake.is_full = True
            self._intake.pause_reading()

    def _parse_piece(self) -> None:
        piece = self._intake.unparsed[: max(PIECE_BYTES, self._body_left)]
        taken = len(piece)
        self._undigested += taken
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            taken = offer.args[0]
            self._read_head_again()
        self._intake.drop(taken)

    def _read_head_again(self) -> None:
        """Give the head just read to a fresh parser, without the protocol that it offers."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # asks for a tunnel: what follows is not HTTP in any case
            self._refuse(400)
            raise httptools.HttpParserError
        if len(self.headers) > MOST_HEADERS:  # some are not kept
            self._refuse(431)
            raise httptools.HttpParserError
        line = b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())
        headers = [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does with the first one
        self.parser.feed_data(b"\r\n".join([line, *headers, b"", b""]))

    def _end_late_head(self) -> None:
        """Close the connection; a caller who had begun a request is told why."""
        if self._is_answering:
            self._head_alarm.start()  # the request before is still being answered, and must not be interrupted
        elif self._undigested and not self.transport.is_closing():
            self._refuse(408)
        else:
            self._close()

    @property
    def is_owing(self) -> bool:
        """Whether a request waits for its answer, or for the rest of it."""
        return self._is_answering or self.transport.get_write_buffer_size() > 0

    @property
    def _is_answering(self) -> bool:
        """Whether a request is being answered, or waits to be."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int) -> None:
        """Take nothing more, and answer with a problem once the requests before it have their answers."""
        self._refused_with = status
        self._head_alarm.stop()  # it would start the wait for a caller who takes no answer anew
        self._intake.unparsed = NOTHING
        if self._is_in_body and not self.pipeline and self.cycle.response_started:
            self._close()  # the rest of a body that was answered before its end
        elif self._is_in_body and self.pipeline:
            self._drop_last()
        elif self._is_in_body:
            exchange = self._begun_exchange()
            exchange.refused_with = status  # the app only sees that the caller leaves
            self._answer(status, exchange)
        elif not self._is_answering:
            self._answer_refused(status)

    def _close(self) -> None:
        """Close the connection once what was sent is taken, but do not wait for that forever."""
        self.transport.close()
        self._watch_last_bytes()

    def _watch_last_bytes(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._unread.watch()

    def _drop_last(self) -> None:
        """Forget the last of the requests that wait: its body cannot be parsed."""
        self.pipeline.popleft()
        assert self._answered is not None  # noqa: S101 -- requests wait for one that is being answered
        self.cycle = self.pipeline[0][0] if self.pipeline else self._answered

    def _begun_exchange(self) -> Exchange:
        """Return the exchange of the last request whose head was read; the app goes on with the same one."""
        return Exchange.begin(cast("dict[str, Any]", self.scope))

    def _answer_refused(self, status: int) -> None:
        """Answer what is not a request, and write its line in the log: the app knows nothing of it.

        The line has no method: what stands in its place may be anything.
        """
        request_id = request_id_of(Headers(raw=self.headers))
        exchange = Exchange(request_id=request_id, method="", arrived=time.monotonic(), status=status)
        self._answer(status, exchange)
        logs.log_access(exchange)

    def _answer(self, status: int, exchange: Exchange) -> None:
        """Answer with a problem, whatever else was to come, and close."""
        answer = problems.of_status(status, exchange)
        exchange.add_headers(answer.headers)
        answer.headers.update(headers_for(self._origins, Headers(raw=self.headers)))
        exchange.sent_bytes = len(answer.body)
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
        sent = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        headers = [b"%b: %b" % header for header in sent]
        self.transport.write(b"\r\n".join([line, *headers, b"", bytes(answer.body)]))
        self._close()


class _Refused(Exception):
    """The head or the body has been answered already; never leaves the parser."""

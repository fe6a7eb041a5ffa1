"""What every request gets, whatever becomes of it: an id, its headers, an end even after a bug, a line in the log."""

import asyncio
import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.exchange import Exchange

LINGER_S = 2.0
"""How long a body that nobody wants may still arrive before its connection is closed."""

logger = logging.getLogger(__name__)


class RequestContext:
    """ASGI middleware. `on_answered` gets each finished exchange; while `is_draining`, the connection ends with it.

    Every answer of `app` passes through `around`; so does the answer to a bug, which is made here.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        is_draining: Callable[[], bool],
        on_answered: Callable[[Exchange], None],
        around: Callable[[ASGIApp], ASGIApp] = lambda answer: answer,
    ) -> None:
        self._app = app
        self._is_draining = is_draining
        self._on_answered = on_answered
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and see its answer through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.begin(scope)
        incoming = _Incoming(receive, scope)
        outgoing = _Outgoing(send, exchange, incoming, self._is_draining)
        try:
            await self._app(scope, incoming, outgoing)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if outgoing.has_begun:
                raise  # the server then breaks the connection, so that nobody takes a part for the whole
            await self._around(problems.internal_error(exchange))(scope, incoming, outgoing)
        finally:
            exchange.end(scope)
            self._on_answered(exchange)


class _Incoming:
    """The request's messages. `is_last`: the caller wants only this one answer over the connection.

    `is_unasked`: the caller waits to be asked for the body. If answered instead, it may still send the body, or its
    next request: nobody can tell which, so the connection has to end.
    """

    def __init__(self, receive: Receive, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self.is_last = scope.get("http_version") == "1.0" or "close" in headers.get("connection", "").lower()
        self._has_ended = "expect" in headers  # its body does not come before it is asked for
        self.is_unasked = self._has_ended

    async def __call__(self) -> Message:
        self.is_unasked = False
        message = await self._receive()
        self._has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard_rest(self) -> None:
        """Read what is still coming: closing a socket with unread bytes resets it, and the answer would be lost."""
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._has_ended:
                    await self()
        except TimeoutError:
            return


class _Outgoing:
    """The answer's messages, with the headers that every answer carries."""

    def __init__(self, send: Send, exchange: Exchange, incoming: _Incoming, is_draining: Callable[[], bool]) -> None:
        self._send = send
        self._exchange = exchange
        self._incoming = incoming
        self._is_draining = is_draining
        self._closes = False
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._exchange.status = message["status"]
            self._closes = self._incoming.is_last or self._incoming.is_unasked or self._is_draining()
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            self._exchange.add_headers(headers)
            if self._closes:
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            if self._exchange.method != "HEAD":  # whose answer has the head alone
                self._exchange.sent_bytes += len(message.get("body", b""))
            if self._closes and not message.get("more_body", False):
                message = await self._all_but_the_end(message)
        await self._send(message)

    async def _all_but_the_end(self, last: Message) -> Message:
        """Send the `last` piece, then wait until the connection can be closed; return the end of the answer."""
        await self._send({**last, "more_body": True})
        await self._incoming.discard_rest()
        return {"type": "http.response.body", "body": b""}

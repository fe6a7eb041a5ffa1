"""uvicorn's HTTP/1.1, but with bounded heads, and with a problem for what is no HTTP."""

import uuid
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api import problems
from service.api.exchange import Exchange

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers together, and of a chunked body's trailers. The parser itself has no limit."""


class Protocol(HttpToolsProtocol):
    """One connection.

    What comes in is parsed and kept by uvicorn as it comes: a head that never ends would fill the memory. So bytes are
    counted that are neither body nor the end of a head, and a whole head is measured before its request begins.
    """

    _undigested = 0
    _has_head = False

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; refuse to take more of a head, or of trailers, than MAX_HEAD_BYTES."""
        self._undigested += len(data)
        super().data_received(data)
        if self._undigested > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._has_head = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; those behind a chunked body, its trailers, mean nothing here and are not kept."""
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request begin, unless its head is too large."""
        self._undigested, self._has_head = 0, True
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._refuse(431)
            raise _HeadTooLarge  # ends the parsing of what else has come
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; how much that may be in all is the routes' affair."""
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request's body."""
        self._undigested = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Answer bytes that cannot be parsed, and close."""
        if not self.transport.is_closing():
            self._refuse(400)

    def _refuse(self, status: int) -> None:
        """Answer with a problem, whatever else was to come, and close."""
        answer = problems.of_status(status, Exchange(request_id=uuid.uuid4().hex, method="", arrived=0.0))
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
        headers = [b"%b: %b" % header for header in [*answer.raw_headers, (b"connection", b"close")]]
        self.transport.write(b"\r\n".join([line, *headers, b"", bytes(answer.body)]))
        self.transport.close()


class _HeadTooLarge(Exception):
    """Was answered already; never leaves the parser."""

"""The server process: listens, and on SIGTERM or SIGINT answers what it has accepted before it stops."""

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api import logs, problems
from service.api.app import create_app
from service.api.exchange import Exchange
from service.api.parts import Parts
from service.engine.engine import Engine
from service.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than the 60 s after which load balancers usually drop an idle connection: they should be the first to."""

SEND_TIMEOUT_S = 5
"""How long, once all answers are made, slow callers may take to receive theirs before the server stops."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


def serve(settings: Settings, engines: Mapping[str, Engine] | None = None) -> int:
    """Serve until a signal ends it; return the process's exit code. Ready `engines` are passed to `create_app`.

    Raises:
        SystemExit: the address cannot be listened on, or the app does not start; the log says why.
    """
    logs.configure(settings.log_level)
    app = create_app(settings, engines)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        lifespan="on",
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SEND_TIMEOUT_S,
    )
    Server(config, app.state.parts).run()
    return 0


class Server(uvicorn.Server):
    """uvicorn, but told to stop it drains first.

    From the signal on `/readyz` says 503 and new uploads are refused, while the socket stays open so that callers get
    an answer. Once nothing is in flight, or the time to drain is over, the server stops. More signals change nothing.
    """

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        self._stopping: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on a signal; uvicorn's own way would end the process by that signal instead of with 0."""
        loop = asyncio.get_running_loop()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._drain)

        for number in STOP_SIGNALS:
            signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # one more must not break off what is left of the exit

    def _drain(self) -> None:
        if self._stopping is None:
            logger.info("draining: %d uploads in flight", self._parts.traffic.in_flight)
            self._parts.drain()
            self._stopping = asyncio.get_running_loop().create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        await self._parts.traffic.wait_idle()
        logger.info("stopping")
        self.should_exit = True

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        port = listeners[0].getsockname()[1]
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        logger.info("listening on http://%s:%d", host, port)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, but what is no HTTP is answered like every other error: with a problem."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Answer bytes that cannot be parsed, and close."""
        answer = problems.of_status(400, Exchange(request_id=uuid.uuid4().hex, method="", arrived=0.0))
        headers = [b"%b: %b" % header for header in [*answer.raw_headers, (b"connection", b"close")]]
        self.transport.write(b"\r\n".join([b"HTTP/1.1 400 Bad Request", *headers, b"", bytes(answer.body)]))
        self.transport.close()

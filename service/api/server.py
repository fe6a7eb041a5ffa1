"""The server process: listens, and on SIGTERM or SIGINT answers what it has accepted before it stops."""

import asyncio
import errno
import faulthandler
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from service.api import logs
from service.api.app import create_app
from service.api.cross_origin import origins_of
from service.api.parts import Parts
from service.api.protocol import Protocol
from service.engine.engine import Engine
from service.engine.own_thread import start
from service.errors import BadSettings
from service.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than the 60 s after which load balancers usually drop an idle connection: they should do so first."""

SEND_TIMEOUT_S = 5
"""How long slow callers may still take to receive their answers once the time to drain is over."""

LOOK_EVERY_S = 0.1
"""How often a stopping server checks whether all callers have their answers."""

LET_GO_S = 3
"""How long after SEND_TIMEOUT_S a batch or a step of loading that nobody waits for may still run. Then the process ends
without it: a network or a driver that hangs would hold the process for good."""

LAST_WORDS_S = 2.5
"""How long a server that has lost its device goes on saying so, to each caller and to whoever asks /readyz."""

EXIT_DEVICE_LOST = 70
"""The exit code of a process that has lost its device (EX_SOFTWARE): its supervisor should start another."""

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""The system's errors for an address, or a whole family of addresses, that this machine lacks."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


def serve(settings: Settings, engines: Mapping[str, Engine] | None = None) -> int:
    """Serve until a signal ends it; return the process's exit code. Ready `engines` are passed to `create_app`.

    Raises:
        BadSettings: the address cannot be listened on, or `create_app` refuses the settings.
        SystemExit: the app does not start; the log says why.
    """
    logs.configure(settings.log_level)
    app = create_app(settings, engines)
    config = uvicorn.Config(
        app,
        http=partial(Protocol, origins=origins_of(settings.cors_origins)),  # type: ignore[arg-type]  # uvicorn calls it
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
    listeners = _listen(settings.host, settings.port)
    _spare_imports_from_garbage_collection()
    _run(Server(config, app.state.parts), listeners)
    return 0


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of the host that this machine has; for all its addresses if the host is empty.

    A name may stand for addresses that the machine lacks: `localhost` is also `::1`, even where IPv6 is switched off.
    uvicorn would do all this itself, but its last words do not say which address was meant.

    Raises:
        BadSettings: there is no such address here, or something listens there already.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _listeners(dict.fromkeys((family, address) for family, _, _, _, address in found))
    except (OSError, UnicodeError) as error:
        why: object = error
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = "the port is in use; end what listens there, or take another one with --port or ALNET_PORT"
        raise BadSettings(f"ALNET_HOST={host} ALNET_PORT={port}: cannot listen there: {why}") from error


def _listeners(addresses: Iterable[tuple[socket.AddressFamily, Any]]) -> list[socket.socket]:
    """Return a socket for each of the addresses that this machine has.

    Raises:
        OSError: the machine has none of them, or something listens at one already.
    """
    listeners: list[socket.socket] = []
    lacking: OSError | None = None
    for family, address in addresses:
        try:
            listeners.append(socket.create_server(address, family=family))
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
            lacking = error
    if lacking is not None and not listeners:
        raise lacking
    return listeners


def _run(server: "Server", listeners: list[socket.socket]) -> None:
    try:
        server.run(listeners)
    except RuntimeError as error:
        if not server.should_exit:
            raise
        logger.warning("all is answered, but the event loop does not end as it should: %s", error)  # it needs a thread


def _spare_imports_from_garbage_collection() -> None:
    """Exempt from collection what is there before the first request: it stays for good.

    That is some 200,000 objects, most of them torch's: going through them stops every thread for 150 ms at each full
    collection. What comes later, such as networks that are swapped in and out, is collected as usual.
    """
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn, but it drains before it stops.

    From the signal on, `/readyz` says 503 and new uploads are refused, while the socket stays open so that callers get
    an answer. The server stops once nothing is in flight and every answer has been taken, or once the time to drain is
    over, but not before `lame_duck_s`. Then the process ends, even if something in it hangs. Further signals change
    nothing.

    If the device is lost, every answer is a 503 from then on, and the process ends soon with `EXIT_DEVICE_LOST`, even
    while draining.
    """

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        self._stopping: asyncio.Task[None] | None = None
        self._has_lost_device = False

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
                signal.signal(number, signal.SIG_IGN)  # another one must not interrupt the rest of the exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and to watch the device."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        self._watching = asyncio.get_running_loop().create_task(self._end_with_the_device())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; if the device is lost, `_end_with_the_device` ends the process. From here on it is let go, not lost."""
        if self._has_lost_device:
            await self._watching
        self._watching.cancel()
        await super().shutdown(sockets)

    async def _end_with_the_device(self) -> None:
        """End the process once the device is lost, even if other things hang with it; Python's own exit may, too."""
        lost = await self._parts.fleet.wait_device_lost()
        self._has_lost_device = True
        with suppress(RuntimeError):  # this takes a thread, and none may be left; then the event loop must do
            faulthandler.dump_traceback_later(LAST_WORDS_S + 1.5, exit=True)  # in case the event loop hangs as well
        logger.critical("%s; the process ends, to be started anew", lost, exc_info=lost)
        self._parts.traffic.drain(0.1)  # for those still sending; those who wait for the device are being told already
        await asyncio.sleep(LAST_WORDS_S)
        logging.shutdown()
        os._exit(EXIT_DEVICE_LOST)

    def _drain(self) -> None:
        if self._stopping is None:
            logger.info("draining: %d uploads in flight", self._parts.traffic.in_flight)
            self._parts.drain()
            self._stopping = asyncio.get_running_loop().create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        settings = self._parts.settings
        ends_at = asyncio.get_running_loop().time() + settings.drain_timeout_s
        noticed = asyncio.sleep(min(settings.lame_duck_s, settings.drain_timeout_s))
        await asyncio.gather(self._parts.traffic.wait_idle(), noticed)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await self._wait_sent()
        logger.info("stopping")
        self.should_exit = True  # before all else: what comes after it may fail
        _end_in(SEND_TIMEOUT_S + LET_GO_S)

    async def _wait_sent(self) -> None:
        """Return once every caller has taken its answer."""
        connections = self.server_state.connections
        while any(isinstance(one, Protocol) and one.is_owing for one in connections):  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(LOOK_EVERY_S)


def _end_in(seconds: float) -> None:
    """End the process with 0 after this time, if it has not ended by itself: every caller has been answered."""
    try:
        start(partial(_end_after, seconds))
    except RuntimeError:
        logger.warning("no thread can be started to end the process should it hang; whatever stops it must see to that")


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    logger.warning("a batch or a step of loading does not end; the process ends without it")
    logging.shutdown()
    os._exit(0)

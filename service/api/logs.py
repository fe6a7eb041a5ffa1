"""What the server writes: its own log on stderr, one JSON line for each request on stdout, and times in UTC in both."""

import json
import logging
import sys
from datetime import UTC, datetime
from http import HTTPStatus

from service.api.exchange import Exchange
from service.api.line_writer import LineWriter

access = logging.getLogger("service.access")

PROBES = frozenset({"/livez", "/readyz"})
"""Routes that proxies and supervisors call all the time."""


class _Utc(logging.Formatter):
    """Writes times in the format of the access lines."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        return _iso(datetime.fromtimestamp(record.created, UTC))


def configure(level: str) -> None:
    """Send the server's log, from `level` upwards, to stderr, and the access lines as they are to stdout.

    It has only warnings and worse of libraries, whatever the level: Pillow's debug lines, for one, repeat EXIF values.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line shows them
    own = LineWriter(sys.stderr, what="lines of the server's own log", where="stderr")
    own.setFormatter(_Utc("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[own], force=True)
    logging.getLogger("service").setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # repeats bytes of broken forms
    lines = LineWriter(sys.stdout, what="access lines", where="stdout")
    lines.setFormatter(logging.Formatter("%(message)s"))
    access.handlers = [lines]
    access.setLevel(logging.INFO)
    access.propagate = False


def log_access(exchange: Exchange) -> None:
    """Write the line of a finished exchange: nothing in it comes from the caller but the method and a sane id.

    A probe that finds all well gets no line: such lines would fill the log.
    """
    if exchange.route in PROBES and exchange.status == HTTPStatus.OK:
        return
    line = {
        "time": _iso(datetime.now(UTC)),
        "route": exchange.route,
        "method": exchange.method,
        "status": exchange.status,
        "bytes": exchange.sent_bytes,
        "seconds": round(exchange.seconds, 6),
        "request_id": exchange.request_id,
    }
    # `info` would look up the line of code that called it, which nobody is shown
    access.handle(logging.LogRecord(access.name, logging.INFO, "", 0, json.dumps(line), None, None))


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")

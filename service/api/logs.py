"""What the server writes: its own log on stderr, and one JSON line for each request on stdout."""

import json
import logging
import sys
from datetime import UTC, datetime

from service.api.exchange import Exchange

access = logging.getLogger("service.access")


def configure(level: str) -> None:
    """Send the log of `level` and above to stderr, and the access lines as they are to stdout.

    Of libraries it holds warnings and worse, whatever the level: Pillow's debug lines, for one, repeat EXIF values.
    """
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("service").setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # repeats bytes of broken forms
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(logging.Formatter("%(message)s"))
    access.handlers = [lines]
    access.setLevel(logging.INFO)
    access.propagate = False


def log_access(exchange: Exchange) -> None:
    """Write the line of a finished exchange: nothing in it comes from the caller but method and sane id."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "route": exchange.route,
        "method": exchange.method,
        "status": exchange.status,
        "bytes": exchange.sent_bytes,
        "seconds": round(exchange.seconds, 6),
        "request_id": exchange.request_id,
    }
    access.info(json.dumps(line))

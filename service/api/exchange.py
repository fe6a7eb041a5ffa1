"""What is known of one request, from the arrival of its headers to the last byte of its answer."""

import random
import re
import time
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import Scope

CALLER_LEFT = 499
"""The status that access logs and metrics show for a caller who hung up; it is nginx's, and is never sent."""

UNMATCHED = "unmatched"
SANE_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """One request, filled in on the way.

    `arrived` is a time of the event loop's clock, but read finely (uvloop's has steps of a millisecond). `problem` is
    the slug of the error that was answered, if any. `headers` go out with the answer, whatever it is. `is_hurried`:
    the caller allows less time than the server would. `refused_with` is the status that the connection answered in the
    app's place.
    """

    request_id: str
    method: str
    arrived: float
    route: str = UNMATCHED
    modality: str | None = None
    status: int = CALLER_LEFT
    sent_bytes: int = 0
    seconds: float = 0.0
    problem: str | None = None
    is_hurried: bool = False
    refused_with: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, scope: Scope) -> "Exchange":
        """Return the exchange in the state of an ASGI http scope; make it and put it there if there is none.

        For a request that waits behind another the connection makes it, so that time runs from its headers' arrival.
        """
        state = scope.setdefault("state", {})
        if "exchange" not in state:
            state["exchange"] = cls(
                request_id=request_id_of(Headers(scope=scope)),
                method=scope["method"],
                arrived=time.monotonic(),
            )
        exchange: Exchange = state["exchange"]
        return exchange

    @classmethod
    def of(cls, request: Request) -> "Exchange":
        """Return the exchange that `request` belongs to."""
        exchange: Exchange = request.state.exchange
        return exchange

    def add_headers(self, headers: MutableHeaders) -> None:
        """Add the headers that every answer carries."""
        elapsed_s = time.monotonic() - self.arrived
        headers["X-Request-ID"] = self.request_id
        headers["Cache-Control"] = "no-store"
        headers["X-Content-Type-Options"] = "nosniff"
        headers.update(self.headers)
        headers.setdefault("Server-Timing", f"total;dur={elapsed_s * 1000:.1f}")

    def end(self, scope: Scope) -> None:
        """Note what routing found, what the caller got, and how long it all took."""
        self.status = self.refused_with or self.status
        self.route = getattr(scope.get("route"), "path", UNMATCHED)
        self.modality = scope.get("path_params", {}).get("modality")
        self.seconds = time.monotonic() - self.arrived


def request_id_of(headers: Headers) -> str:
    """Return the caller's id if it is a sane token, else a new one: nothing else may reach our logs."""
    given = headers.get("x-request-id", "")
    return given if SANE_TOKEN.fullmatch(given) else f"{random.getrandbits(128):032x}"

"""Browser pages of other origins: which of them may call, and what they may see of an answer."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.errors import BadSettings

ANY = "*"
ALLOWED = "Access-Control-Allow-Origin"
METHODS = ("GET", "HEAD", "POST")
SENT = ("Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "X-Request-Timeout-Ms")
"""Headers that a page may send."""

SEEN = (
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Segmentation-Components-Left-Out",
    "X-Segmentation-IoU-Expected",
    "X-Segmentation-IoU-Measured",
    "X-Segmentation-Model",
    "X-Segmentation-Warnings",
)
"""Headers that a page may read, besides those that browsers always show."""

KEPT_S = 600
"""How long a browser need not ask again whether a page may call."""

ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
DEFAULT_PORTS = {"http": 80, "https": 443}
HIGHEST_PORT = 65_535


def cross_origin(origins: tuple[str, ...]) -> Callable[[ASGIApp], ASGIApp]:
    """Return a function that wraps an app in the ASGI middleware that lets pages of these origins call it.

    `origins` are as `origins_of` gives them; without any, the function returns the app as it is.

    Cookies are never read, so pages send keys as any caller does. A page from the internet may reach a service in its
    reader's network only if its origin is named.
    """
    if not origins:
        return lambda app: app
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=SENT,
        expose_headers=SEEN,
        allow_private_network=ANY not in origins,
        max_age=KEPT_S,
    )


def headers_for(origins: tuple[str, ...], asked: Headers) -> Mapping[str, str]:
    """Return the headers that the middleware would add to an answer it does not see; `asked` are the request's."""
    if not origins:
        return {}
    origin = asked.get("origin")
    headers = {"Vary": "Origin"}
    if origin is not None:
        headers["Access-Control-Expose-Headers"] = ", ".join(SEEN)
    if origin is not None and ANY in origins:
        headers[ALLOWED] = ANY
    elif origin in origins:
        headers[ALLOWED] = origin
    return headers


def origins_of(text: str) -> tuple[str, ...]:
    """Return the origins of a comma-separated list, each as browsers write it; ("*",) means any.

    Raises:
        BadSettings: an entry is not an origin, or `*` is not alone.
    """
    origins = tuple(_origin(part.strip()) for part in text.split(",") if part.strip())
    if ANY in origins and len(origins) > 1:
        raise BadSettings("ALNET_CORS_ORIGINS: * is any origin, and stands alone")
    return origins


def _origin(text: str) -> str:
    if text == ANY:
        return text
    parts = ORIGIN.fullmatch(text.lower())
    if parts is None or int(parts["port"] or 0) > HIGHEST_PORT:
        raise BadSettings(
            f"ALNET_CORS_ORIGINS: {text!r} is no origin; it is a scheme and a host, and a port if need be, without a"
            " path: https://viewer.example.org"
        )
    is_usual = parts["port"] is None or int(parts["port"]) == DEFAULT_PORTS.get(parts["scheme"])
    return f"{parts['scheme']}://{parts['host']}" + ("" if is_usual else f":{int(parts['port'])}")

"""Viewers in browsers, on pages of other origins: which of them may call, and what they may see of an answer."""

import re
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from service.errors import BadSettings

ANY = "*"
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
    "X-Segmentation-IoU-Expected",
    "X-Segmentation-IoU-Measured",
    "X-Segmentation-Model",
    "X-Segmentation-Warnings",
)
"""Headers that a page may read, beside those that browsers show to all."""

KEPT_S = 600
"""How long a browser need not ask again whether it may."""

DEFAULT_PORTS = {"http": 80, "https": 443}


def cross_origin(origins: tuple[str, ...]) -> partial[Any]:
    """Return the ASGI middleware that lets pages of these origins call, as `origins_of` gives them.

    Cookies are never read, so pages send keys as any caller does. A page from the internet may reach a service in the
    network of its reader only if its origin is named.
    """
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=SENT,
        expose_headers=SEEN,
        allow_private_network=ANY not in origins,
        max_age=KEPT_S,
    )


def origins_of(text: str) -> tuple[str, ...]:
    """Return the origins in a list with commas, each as browsers write it; ("*",) is any.

    Raises:
        BadSettings: one is no origin, or `*` is not alone.
    """
    origins = tuple(_origin(part.strip()) for part in text.split(",") if part.strip())
    if ANY in origins and len(origins) > 1:
        raise BadSettings("ALNET_CORS_ORIGINS: * is any origin, and stands alone")
    return origins


def _origin(text: str) -> str:
    if text == ANY:
        return text
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._\[\]:-]+", text):
        raise _no_origin(text)
    try:
        parts = urlsplit(text.lower())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_origin(text) from error
    if not host:
        raise _no_origin(text)
    shown = f"[{host}]" if ":" in host else host
    is_usual = port is None or DEFAULT_PORTS.get(parts.scheme) == port
    return f"{parts.scheme}://{shown}" + ("" if is_usual else f":{port}")


def _no_origin(text: str) -> BadSettings:
    return BadSettings(
        f"ALNET_CORS_ORIGINS: {text!r} is no origin; it is a scheme and a host, and a port if need be, without a path:"
        " https://viewer.example.org"
    )

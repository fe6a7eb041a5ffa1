"""A path that ends in a line break is a different path, and does not exist, whatever the router takes it for."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.exchange import Exchange


class WholePaths:
    """ASGI middleware: answers a path that ends in a line break with 404.

    Routes are patterns that end in `$`, which in Python also matches before a last line break: `/metrics%0a` was served
    as `/metrics`, even behind proxies that pass on every path but `/metrics`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] == "http" and scope["path"].endswith("\n"):
            await problems.of_status(404, Exchange.of(Request(scope)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

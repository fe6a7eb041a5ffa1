"""In a burst most uploads are refused: the sooner that is known of each, the sooner all of them are told."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.exchange import Exchange
from service.errors import AlnetError, Overloaded


class EarlyRefusal:
    """ASGI middleware: refuses an upload that finds the queue full before anything but its path is looked at.

    Whatever else an upload asks for, it cannot be had now; and to read it, on the way through the framework to
    `route`, takes twice as long as all the rest of a refusal. `admit` raises what would become of an upload of a
    modality that came now; all but Overloaded is left to the route.
    """

    def __init__(self, app: ASGIApp, *, route: BaseRoute, admit: Callable[[str], None]) -> None:
        self._app = app
        self._route = route
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        match, found = self._route.matches(scope)
        if match is not Match.FULL:
            return None
        try:
            self._admit(found["path_params"]["modality"])
        except Overloaded as error:
            scope.update({**found, "route": self._route})  # as routing does; log and metrics go by it
            return problems.of_error(error, Exchange.of(Request(scope)))
        except AlnetError:
            return None
        return None

"""In a burst most uploads are refused: the sooner each refusal is decided, the sooner all the callers are told."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.exchange import Exchange
from service.api.lull import Lull
from service.errors import AlnetError, KeyNeeded, Overloaded, RateLimited


class EarlyRefusal:
    """ASGI middleware: refuses an upload that finds the queue full, looking only at its path and its caller.

    Whatever else such an upload asks for, it cannot be had now, and reading that on the way through the framework to
    `route` takes twice as long as all the rest of a refusal. Uploads that are let in wait for a lull in the burst.

    `let_in` is called once for each request, and raises KeyNeeded or RateLimited for a caller who may not ask now.
    `admit` gets a modality and how many of its uploads are let in but not yet queued. It raises what one more upload
    behind those would meet; all but Overloaded is left to the route.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        route: BaseRoute,
        let_in: Callable[[Request], None],
        admit: Callable[[str, int], None],
    ) -> None:
        self._app = app
        self._route = route
        self._let_in = let_in
        self._admit = admit
        self._lull = Lull()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        match, found = self._route.matches(scope)
        if match is not Match.FULL:
            await self._app(scope, receive, send)
            return
        request, modality = Request(scope), found["path_params"]["modality"]
        self._lull.came()
        try:
            self._let_in(request)
            self._admit(modality, self._lull.waiting(modality))
        except (KeyNeeded, RateLimited, Overloaded) as error:
            scope.update({**found, "route": self._route})  # as routing does; log and metrics go by it
            await problems.of_error(error, Exchange.of(request))(scope, receive, send)
            return
        except AlnetError:
            pass  # the route answers it
        else:
            await self._lull.wait(modality)
        await self._app(scope, receive, send)

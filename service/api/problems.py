"""Every error as `application/problem+json` (RFC 9457). The one table from our errors to HTTP statuses is here."""

import logging
import math
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service import errors
from service.api.exchange import CALLER_LEFT, Exchange
from service.api.schemas import Problem
from service.engine.memory import release
from service.engine.segmenter import MEMORY_SHORT

MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="alnet-service"'
INTERNAL = "internal-error"
FAILED = "the service failed on this request; the request id finds the reason in its log"

STATUS: dict[type[errors.AlnetError], int] = {
    errors.BadMultipart: 400,
    errors.BadParameter: 400,
    errors.KeyNeeded: 401,
    errors.NotAcceptable: 406,
    errors.UploadTooSlow: 408,
    errors.UploadTooLarge: 413,
    errors.ImageTooLarge: 413,
    errors.UnknownImageFormat: 415,
    errors.DamagedImage: 422,
    errors.FrameNeeded: 422,
    errors.ReferenceMismatch: 422,
    errors.UnknownModality: 404,
    errors.Overloaded: 429,
    errors.RateLimited: 429,
    errors.NotReady: 503,
    errors.ShuttingDown: 503,
    errors.MemoryShort: 503,
    errors.DeviceLost: 503,
    errors.DeadlineExceeded: 504,
    errors.EngineFailed: 500,
    errors.BadCheckpoint: 500,
    errors.AlreadyPublished: 500,
    errors.QuantisationLoss: 500,
    errors.BadDataset: 500,
    errors.BadConfig: 500,
    errors.BadSettings: 500,
}

ADVICE = {
    400: "this is no well-formed HTTP request, which has one Host header and no body of countless tiny pieces",
    404: "no such path; /docs lists those that exist",
    405: "that path exists, but not with this method; the Allow header lists those that it has",
    408: "the request's line and headers did not arrive in time; send them at once",
    431: "the request's line and headers, or the trailers behind its body, are longer than 64 KiB, or it has over 128"
    " headers or parameters",
    501: "of transfer codings this server knows chunked alone; send the body in chunks, or with its length",
    505: "this server speaks HTTP/1.0 and HTTP/1.1",
}
"""What to tell a caller about a status that does not come from an error of ours."""

logger = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Answer every error that a route or the router raises; any that is left over ends in `internal_error`."""

    async def on_alnet_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.AlnetError)  # noqa: S101 -- registered for nothing else
        return of_error(error, Exchange.of(request))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return of_error(errors.BadParameter(_what_is_wrong(error)), Exchange.of(request))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return of_status(error.status_code, Exchange.of(request), _with_head(error.headers or {}))

    async def on_want_of_memory(request: Request, error: Exception) -> Response:
        release(error)
        return of_error(errors.MemoryShort(MEMORY_SHORT), Exchange.of(request))

    async def on_hang_up(_request: Request, _error: Exception) -> Response:
        return Response(status_code=CALLER_LEFT)

    app.add_exception_handler(errors.AlnetError, on_alnet_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(MemoryError, on_want_of_memory)
    app.add_exception_handler(ClientDisconnect, on_hang_up)


def slug(kind: type[errors.AlnetError]) -> str:
    """Return an error's name as it appears in problem types and metric labels: `upload-too-large`."""
    return _words(kind.__name__, "-")


def describe(kind: type[errors.AlnetError], detail: str, request_id: str) -> Problem:
    """Return the problem document of an error of this kind."""
    return Problem(
        type=f"urn:alnet:problem:{slug(kind)}",
        title=_words(kind.__name__, " ").capitalize(),
        status=status_of(kind),
        detail=detail,
        request_id=request_id,
    )


def status_of(kind: type[errors.AlnetError]) -> int:
    """Return the status of an error of this kind, or of the nearest kind above it that has one; else 500."""
    return next((STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS), 500)


def of_error(error: errors.AlnetError, exchange: Exchange) -> Response:
    """Answer one of our errors; its message goes to the caller unless the fault is ours."""
    kind = type(error)
    exchange.problem = slug(kind)
    detail = str(error)
    if status_of(kind) == 500:
        logger.error("request %s failed: %s: %s", exchange.request_id, kind.__name__, error, exc_info=error)
        detail = FAILED
    return _response(describe(kind, detail, exchange.request_id), _headers(error))


def of_status(status: int, exchange: Exchange, headers: Mapping[str, str] | None = None) -> Response:
    """Answer an error that has no kind of its own: no such path, no such method."""
    phrase = HTTPStatus(status).phrase
    exchange.problem = phrase.lower().replace(" ", "-")
    document = Problem(
        type="about:blank", title=phrase, status=status, detail=_advice(status), request_id=exchange.request_id
    )
    return _response(document, headers)


def internal_error(exchange: Exchange) -> Response:
    """Answer a bug, and show nothing of it."""
    exchange.problem = INTERNAL
    document = Problem(
        type=f"urn:alnet:problem:{INTERNAL}",
        title="Internal error",
        status=500,
        detail=FAILED,
        request_id=exchange.request_id,
    )
    return _response(document)


def _response(document: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(document.model_dump_json(), document.status, headers, media_type=MEDIA_TYPE)


def _headers(error: errors.AlnetError) -> dict[str, str]:
    match error:
        case (
            errors.Overloaded()
            | errors.RateLimited()
            | errors.NotReady()
            | errors.ShuttingDown()
            | errors.MemoryShort()
            | errors.DeviceLost()
        ):
            return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        case errors.KeyNeeded():
            return {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if error.was_sent else "")}  # RFC 6750
        case errors.NotAcceptable():
            return {"Vary": "Accept"}
        case errors.UploadTooSlow():
            return {"Connection": "close"}  # the rest of the body may come any time, or never
        case _:
            return {}


def _with_head(headers: Mapping[str, str]) -> dict[str, str]:
    """Name HEAD besides GET: a path with one has both, but as two routes, and the router names only the first."""
    return {name: "GET, HEAD" if (name, value) == ("Allow", "GET") else value for name, value in headers.items()}


@cache
def _words(name: str, separator: str) -> str:
    return separator.join(re.findall("[A-Z][a-z]*", name)).lower()


def _advice(status: int) -> str:
    return ADVICE.get(status) or HTTPStatus(status).description or HTTPStatus(status).phrase


def _what_is_wrong(error: RequestValidationError) -> str:
    """Name the parameters and what each must be, without repeating what was sent."""
    return "; ".join(f"{wrong['loc'][-1]}: {wrong['msg']}" for wrong in error.errors())

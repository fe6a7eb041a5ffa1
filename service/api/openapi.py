"""What the routes' signatures do not say about the HTTP contract: bodies, binary answers, headers, every problem."""

from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Any

from fastapi import FastAPI

from service import errors
from service.api import problems
from service.api.gate import Gate
from service.api.negotiation import Representation
from service.api.schemas import Problem

Json = dict[str, Any]
Responses = dict[int | str, Json]

REQUEST_ID = "3f6c0c9e6d5b4a0f9a1d7a2e8c4b5d60"
IMAGE_TYPES = (
    "image/png",
    "image/jpeg",
    "image/tiff",
    "image/bmp",
    "image/x-portable-pixmap",
    "application/octet-stream",
)
BINARY: Json = {"type": "string", "format": "binary"}

SEGMENT_PATH = "/segment/{modality}"
ANSWER: Json = {
    "request_id": REQUEST_ID,
    "modality": "retina",
    "model": {
        "version": "3",
        "architecture": "al-net",
        "checkpoint_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "parameters": 3448418,
        "threshold": 0.5,
        "intended_use": "Research use only. Not a medical device.",
    },
    "image": {"width": 700, "height": 605, "format": "png"},
    "mask": {
        "media_type": "image/png",
        "encoding": "base64",
        "data": "iVBORw0KGgo=",
        "label": "vessel",
        "area_px": 31240,
        "area_fraction": 0.0738,
        "components_left_out": 0,
        "left_out_px": 0,
    },
    "probability": None,
    "iou": {
        "measured": None,
        "accuracy": None,
        "expected": 0.71,
        "expected_error": 0.04,
        "validated": {"dataset": "STARE", "split": "by case", "n": 6, "iou_mean": 0.70, "iou_std": 0.05},
    },
    "latency_ms": {"decode": 3.1, "queue": 0.4, "inference": 9.8, "postprocess": 2.0, "total": 15.3},
    "batch_size": 4,
    "warnings": [],
}


def _header(description: str, kind: str = "string") -> Json:
    return {"description": description, "schema": {"type": kind}}


ALWAYS_SENT: Json = {
    "X-Request-ID": _header("Names this request in the service's log."),
    "Server-Timing": _header("Milliseconds: of each stage where there is a mask, else in all."),
    "Cache-Control": _header("`no-store`: answers are for the caller alone."),
    "X-Content-Type-Options": _header("`nosniff`: a body is what `Content-Type` says, and nothing else."),
}

RETRY_AFTER: Json = {"Retry-After": _header("Seconds after which to try again.", "integer")}
VARY: Json = {"Vary": _header("`Accept`, by which the representation was chosen.")}
SENT_WITH: dict[int, Json] = {
    401: {"WWW-Authenticate": _header("How to send a key.")},
    406: VARY,
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}
"""Further headers of problems, by status."""

LIMITS: Json = {
    "RateLimit-Policy": _header("The caller's allowance: `q` requests, which come back within `w` seconds."),
    "RateLimit": _header("What is left of it: `r` requests, and all of them again in `t` seconds."),
}

PNG_ONLY = "On image/png only: "


def problems_of(*kinds: type[errors.AlnetError]) -> Responses:
    """Describe the answers to errors of these kinds, with an example of each, and say that all others look alike."""
    by_status: dict[int, list[type[errors.AlnetError]]] = defaultdict(list)
    for kind in kinds:
        by_status[problems.status_of(kind)].append(kind)
    described: Responses = {status: _problem(status, by_status[status]) for status in sorted(by_status)}
    other = {"description": "Any other problem.", "content": _problem_content({})}
    return described | {"default": other}


def _problem(status: int, kinds: list[type[errors.AlnetError]]) -> Json:
    examples = {
        problems.slug(kind): {"value": problems.describe(kind, _first_line(kind), REQUEST_ID).model_dump()}
        for kind in kinds
    }
    return {
        "description": HTTPStatus(status).phrase,
        "content": _problem_content(examples),
        "headers": SENT_WITH.get(status, {}),
    }


def _problem_content(examples: Json) -> Json:
    return {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}


def _first_line(kind: type[errors.AlnetError]) -> str:
    return (kind.__doc__ or "").splitlines()[0]


_ANSWERED: Responses = {
    200: {
        "description": "The mask, in the representation that `Accept` asks for.",
        "content": {
            Representation.JSON.value: {"example": ANSWER},
            Representation.PNG.value: {"schema": BINARY},
        },
        "headers": VARY
        | {
            "X-Segmentation-Model": _header(PNG_ONLY + "modality and version of the checkpoint."),
            "X-Segmentation-IoU-Expected": _header(PNG_ONLY + "the IoU to expect of this mask."),
            "X-Segmentation-IoU-Measured": _header(PNG_ONLY + "the IoU against the reference, if one was sent."),
            "X-Segmentation-Components-Left-Out": _header(PNG_ONLY + "how many, if any: JSON's `components_left_out`."),
            "X-Segmentation-Warnings": _header(PNG_ONLY + "the codes of JSON's `warnings`, with commas, if any."),
        },
    },
}
SEGMENT_RESPONSES: Responses = _ANSWERED | problems_of(
    *(kind for kind, status in problems.STATUS.items() if status not in {401, 500}), errors.EngineFailed
)

SEGMENT_EXTRA: Json = {
    "requestBody": {
        "required": True,
        "description": "A form of files, each with a filename, or the image as it is. The bytes decide what the image"
        " is, whatever the header says.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": BINARY | {"description": "The image: PNG, JPEG, TIFF, BMP or PPM."},
                        "reference": BINARY | {"description": "A mask known to be true, of the image's size."},
                    },
                }
            },
            **{media_type: {"schema": BINARY} for media_type in IMAGE_TYPES},
        },
    },
    "parameters": [
        {
            "name": "X-Request-ID",
            "in": "header",
            "required": False,
            "description": "Your name for this request: up to 64 letters, digits, dots, underscores or hyphens; any"
            " other is replaced.",
            "schema": {"type": "string"},
        }
    ],
}


METRICS_TYPES = ("text/plain", "application/openmetrics-text")

_MEASURED: Responses = {
    200: {
        "description": "Prometheus' text format, or OpenMetrics if the scraper prefers it.",
        "content": {media_type: {"schema": {"type": "string"}} for media_type in METRICS_TYPES},
    }
}
METRICS_RESPONSES: Responses = _MEASURED | problems_of()


SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of this service."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


def document(app: FastAPI, gate: Gate) -> Json:
    """Return the app's OpenAPI document with everything that holds for every route: headers, keys and limits."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        _offer_no_null(schema)
        schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        _restore_nulls(schema)
        if gate.limits_callers:
            _declare_limits(schema, gate)
        if gate.asks_for_keys:  # after the limits: a 401 does not carry those
            _declare_keys(schema, gate)
        _declare_headers(schema)
    return FastAPI.openapi(app)


def _offer_no_null(schema: Json) -> None:
    """Let no parameter be null: it may be left out, but in a query or a header null would be the word "null"."""
    for operations in schema["paths"].values():
        for parameter in chain.from_iterable(operation.get("parameters", ()) for operation in operations.values()):
            described = parameter["schema"]
            for choice in described.pop("anyOf", ()):
                described |= {} if choice == {"type": "null"} else choice


def _restore_nulls(schema: Json) -> None:
    """Restore the nulls in the example of an answer, which FastAPI drops: the schema requires those fields."""
    answered = schema["paths"][SEGMENT_PATH]["post"]["responses"]["200"]
    answered["content"][Representation.JSON.value]["example"] = ANSWER


def _declare_headers(schema: Json) -> None:
    for operations in schema["paths"].values():
        for operation in operations.values():
            _add_headers(operation, ALWAYS_SENT)


def _declare_limits(schema: Json, gate: Gate) -> None:
    for operation in _guarded(schema, gate):
        operation["responses"].setdefault("429", _problem(429, [errors.RateLimited]))
        _add_headers(operation, LIMITS)


def _declare_keys(schema: Json, gate: Gate) -> None:
    schema["components"]["securitySchemes"] = SECURITY_SCHEMES
    for operation in _guarded(schema, gate):
        operation["security"] = [{name: []} for name in SECURITY_SCHEMES]
        operation["responses"]["401"] = _problem(401, [errors.KeyNeeded])


def _guarded(schema: Json, gate: Gate) -> Iterator[Json]:
    for path, operations in schema["paths"].items():
        if gate.guards(path):
            yield from operations.values()


def _add_headers(operation: Json, headers: Json) -> None:
    for response in operation["responses"].values():
        response["headers"] = headers | response.get("headers", {})

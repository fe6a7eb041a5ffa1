"""For orchestrators and Prometheus: is it alive, may it get work, how is it doing."""

import re

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from service.api import openapi
from service.api.parts import TheParts
from service.api.schemas import Health
from service.errors import NotReady

METRICS_VERSIONS = frozenset({"0.0.1", "0.0.4", "1.0.0"})
"""The versions of OpenMetrics and of Prometheus' text format that exist."""

_VERSION = re.compile(r";\s*version\s*=\s*([^;]*)", re.IGNORECASE)

router = APIRouter(tags=["operations"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses=openapi.problems_of(), summary="Is the process alive?")
async def livez() -> Health:
    """Answer 200 as long as the event loop turns, also while starting and draining."""
    return Health(status="alive")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=openapi.problems_of(NotReady), summary="May it get work?")
async def readyz(parts: TheParts) -> Health:
    """Answer 200 once every modality is loaded, compared with its card and warmed up, until the replica drains.

    503 also while a batch runs for longer than any caller may wait, and for good once the device is lost.
    """
    if not parts.fleet.is_ready:
        raise NotReady(parts.fleet.why_not_ready)
    return Health(status="ready")


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", responses=openapi.METRICS_RESPONSES, response_class=Response, summary="Prometheus metrics")
async def metrics(request: Request, parts: TheParts) -> Response:
    """Return every metric, in OpenMetrics or Prometheus' text format as the scraper asks."""
    encode, media_type = choose_encoder(_of_known_versions(request.headers.get("accept", "")))
    text = await parts.telemetry.text_of(media_type, encode)
    return Response(text, headers={"Content-Type": media_type})


def _of_known_versions(accept: str) -> str:
    """Drop the types with a version that does not exist: the encoder fails on some, and claims to write others."""
    types = accept.replace('"', "").split(",")  # no parameter of a metrics format has a comma in its quotes
    return ",".join(one for one in types if METRICS_VERSIONS.issuperset(map(str.strip, _VERSION.findall(one))))

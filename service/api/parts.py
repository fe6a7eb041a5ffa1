"""The running parts that routes ask for in their signatures."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.api.telemetry import Telemetry
from service.api.traffic import Traffic
from service.engine.fleet import Fleet
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """One server's parts, joined by `create_app`."""

    settings: Settings
    fleet: Fleet
    traffic: Traffic
    telemetry: Telemetry


async def _the_parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_the_parts)]

"""What routes ask for in their signatures."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from service.api.body_memory import BodyMemory
from service.api.telemetry import Telemetry
from service.api.traffic import Traffic
from service.engine.fleet import Fleet
from service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One server's parts, joined by `create_app`."""

    settings: Settings
    fleet: Fleet
    traffic: Traffic
    bodies: BodyMemory
    telemetry: Telemetry

    def drain(self) -> None:
        """Take no new work from now on, and end what is in flight within `drain_timeout_s`."""
        self.fleet.drain()
        self.traffic.drain(self.settings.drain_timeout_s)


async def _the_parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_the_parts)]
Modality = Annotated[str, Path(description="What the image shows: a modality that `GET /models` lists.")]

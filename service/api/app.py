"""The only place where the service's parts are joined."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI

from service import __version__
from service.api import health, logs, models, openapi, pages, problems, segmentation
from service.api.body_memory import BodyMemory
from service.api.cross_origin import cross_origin, origins_of
from service.api.early_refusal import EarlyRefusal
from service.api.exchange import Exchange
from service.api.gate import Gate
from service.api.loop_lag import LoopLag
from service.api.parts import Parts
from service.api.request_context import RequestContext
from service.api.state_metrics import StateMetrics
from service.api.telemetry import Telemetry
from service.api.traffic import Traffic
from service.api.whole_paths import WholePaths
from service.engine.engine import Engine
from service.engine.fleet import Fleet
from service.settings import Settings

ABOUT = (
    "Segments retina, cell and skin images with AL-Net: one upload, one mask on the upload's own grid, and how good it"
    " is to be expected. Errors are `application/problem+json`. Research use only: not a medical device."
)


def create_app(settings: Settings, engines: Mapping[str, Engine] | None = None) -> FastAPI:
    """Join the parts. Ready `engines` by modality may be handed in; otherwise they are loaded from the model store.

    Loading begins when the app starts and goes on in the background: `/readyz` says when it is done. `app.state.parts`
    holds the Parts for whoever runs the app.

    Raises:
        BadSettings: as `Gate.of` (key file, rate limit) and `origins_of` (origins).
    """
    gate = Gate.of(settings)
    traffic, telemetry = Traffic(), Telemetry()
    fleet = Fleet(
        settings,
        engines=engines,
        on_batch=telemetry.record_batch,
        on_modality=lambda modality: telemetry.expect([modality]),
        on_checkpoint=telemetry.record_checkpoint,
    )
    telemetry.registry.register(StateMetrics(fleet, traffic))

    def on_answered(exchange: Exchange) -> None:
        telemetry.record_exchange(exchange)
        logs.log_access(exchange)

    app = _without_routes(gate, telemetry, fleet)
    bodies = BodyMemory(settings.max_bodies_bytes)
    app.state.parts = Parts(settings=settings, fleet=fleet, traffic=traffic, bodies=bodies, telemetry=telemetry)
    [uploads] = segmentation.router.routes
    app.add_middleware(WholePaths)
    app.add_middleware(
        EarlyRefusal,
        route=uploads,
        let_in=gate.let_in,
        admit=lambda modality, ahead: fleet.segmenter(modality).admit(deadline=None, ahead=ahead),
    )
    around = cross_origin(origins_of(settings.cors_origins))
    app.add_middleware(around)
    app.add_middleware(RequestContext, is_draining=lambda: traffic.is_draining, on_answered=on_answered, around=around)
    problems.install(app)
    for router in (segmentation.router, models.router, health.router, pages.router()):
        app.include_router(router)
    app.openapi = partial(openapi.document, app, gate)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _without_routes(gate: Gate, telemetry: Telemetry, fleet: Fleet) -> FastAPI:
    """Return an app without routes, behind the gate; the fleet, and the event loop's watch, live as long as the app."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with LoopLag(telemetry.record_lag), fleet:
            telemetry.expect(fleet.states)
            yield

    return FastAPI(
        title="alnet-service",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's route to it has no name in logs; ours is in `pages`
        docs_url=None,  # its page loads code from the internet; ours is in `pages`
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # operation ids; generated clients name methods by them
        redirect_slashes=False,  # redirects go to an address made of the caller's Host header, without TLS
        dependencies=[Depends(gate)] if gate.is_needed else [],
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else providers are looked up at each request
    )

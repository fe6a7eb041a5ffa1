"""Runs an app with fake engines in this process, and speaks to it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from service.api.app import create_app
from service.api.parts import Parts
from service.settings import Settings
from tests.doubles import FakeEngine, fake_engine_card


def fake_app(engines: Sequence[FakeEngine] = (), **settings: Any) -> FastAPI:
    """Return an app that serves these engines by their cards' modalities; by default one for retina."""
    served = engines or [FakeEngine(fake_engine_card("retina"))]
    return create_app(Settings(**settings), {engine.card.modality: engine for engine in served})


def parts_of(app: FastAPI) -> Parts:
    parts: Parts = app.state.parts
    return parts


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start the app, wait until its engines are loaded, and yield a client."""
    async with started(app) as client:
        await parts_of(app).fleet.wait_loaded()
        yield client


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start the app and yield a client at once, while engines may still be loading."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client:
            yield client


def form(**files: bytes) -> Mapping[str, tuple[str, bytes]]:
    """Return httpx's `files` for these parts."""
    return {name: (f"{name}.png", content) for name, content in files.items()}

"""Alive, ready, or why not."""

import threading
from pathlib import Path

import pytest

from service.api.app import create_app
from service.settings import Settings
from tests.api.client import fake_app, parts_of, running, started
from tests.doubles import FakeEngine, draw, fake_engine_card, png
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_loaded_service_is_ready() -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready"}


async def test_a_service_that_loads_is_alive_but_not_ready() -> None:
    gate = threading.Event()
    async with started(fake_app([FakeEngine(fake_engine_card(), gate=gate)])) as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")
        upload = await client.post("/segment/retina", content=png(draw()))
        gate.set()
    assert alive.status_code == 200
    for answer in (ready, upload):
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:alnet:problem:not-ready"
        assert int(answer.headers["retry-after"]) >= 1


async def test_one_of_two_modalities_is_not_enough() -> None:
    gate = threading.Event()
    app = fake_app([FakeEngine(fake_engine_card("retina")), FakeEngine(fake_engine_card("cell"), gate=gate)])
    async with started(app) as client:
        await until(lambda: "retina" in parts_of(app).fleet.cards)
        one_loaded = await client.get("/readyz")
        gate.set()
        await parts_of(app).fleet.wait_loaded()
        both_loaded = await client.get("/readyz")
    assert one_loaded.status_code == 503
    assert "cell" in one_loaded.json()["detail"]
    assert "retina" not in one_loaded.json()["detail"]
    assert both_loaded.status_code == 200


async def test_an_empty_model_store_is_not_ready(tmp_path: Path) -> None:
    async with running(create_app(Settings.model_validate({"store": tmp_path}))) as client:
        ready, models = await client.get("/readyz"), await client.get("/models")
    assert ready.status_code == 503
    assert models.json() == {"models": []}


async def test_a_draining_service_is_alive_but_not_ready_and_takes_no_uploads() -> None:
    app = fake_app()
    async with running(app) as client:
        parts_of(app).drain()
        alive, ready = await client.get("/livez"), await client.get("/readyz")
        upload = await client.post("/segment/retina", content=png(draw()))
    assert alive.status_code == 200
    assert ready.status_code == 503
    assert upload.status_code == 503
    assert upload.json()["type"] == "urn:alnet:problem:shutting-down"
    assert int(upload.headers["retry-after"]) >= 1
    assert upload.headers["connection"] == "close"


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4;"),
        ("*/*", "text/plain; version=0.0.4;"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4;"),
        ("text/plain; version=1.0.0", "text/plain; version=1.0.0;"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0;"),
        ('application/openmetrics-text; version="1.0.0"', "application/openmetrics-text; version=1.0.0;"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0;"),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4;"),
        ("application/openmetrics-text; version=1.0.0 x", "text/plain; version=0.0.4;"),
        ("application/openmetrics-text; version=", "text/plain; version=0.0.4;"),
        ("application/openmetrics-text; version=9999999999999999999.0.0", "text/plain; version=0.0.4;"),
        ("application/openmetrics-text; version=1.0.0;version=2", "text/plain; version=0.0.4;"),
        ("application/openmetrics-text; VERSION=abc, text/plain;version=1.0.0", "text/plain; version=1.0.0;"),
        ("text/plain;version;version==1;=,;,version=x", "text/plain; version=0.0.4;"),
    ],
)
async def test_metrics_have_a_format_that_exists_whatever_is_asked_for(accept: str, media_type: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert "alnet_requests_total" in answer.text

"""Scripted traffic of every outcome: each request is counted once, as what it was."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from service.api.key_file import add_key
from service.api.telemetry import STAGES, STATUSES
from tests.api.client import fake_app, parts_of, running
from tests.doubles import FakeEngine, draw, fake_engine_card, png, poisonous
from tests.waiting import until

pytestmark = pytest.mark.anyio

IMAGE = png(draw())
URL = "/segment/retina"
BURST = 100
Counts = dict[tuple[str, ...], float]


async def counts(client: httpx.AsyncClient, name: str, *labels: str) -> Counts:
    """Return the samples of this name that are not 0, by their values of these labels."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    samples = [sample for family in families for sample in family.samples if sample.name == f"alnet_{name}"]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples if sample.value}


async def hang_up(app: FastAPI, key: str) -> None:
    """Send the head of an upload, and leave."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        return

    headers = [(b"x-api-key", key.encode())]
    scope = {"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": headers}
    await app(scope, receive, send)


async def stalling() -> AsyncIterator[bytes]:
    yield IMAGE[:100]
    await asyncio.sleep(60)


async def refused_at_once(client: httpx.AsyncClient, limited: dict[str, str]) -> list[int]:
    """Send what never reaches the engine, but for one image that it cannot be run on; return the statuses."""
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    while (await client.get("/models", headers=limited)).status_code == 200:
        pass
    answers = [
        await client.post(URL, content=IMAGE, headers={"X-API-Key": "alnet_wrong"}),
        await client.post(URL, content=IMAGE, headers=limited),
        await client.post(URL, params={"threshold": "7"}, content=IMAGE),
        await client.post(URL, content=b"--b", headers=form),
        await client.post("/segment/liver", content=IMAGE),
        await client.get(URL),
        await client.post(URL, content=IMAGE, headers={"Accept": "text/html"}),
        await client.post(URL, content=stalling()),
        await client.post(URL, content=bytes(200_000)),
        await client.post(URL, content=b"no image"),
        await client.post(URL, content=IMAGE[:3000]),
        await client.post(URL, files={"image": ("a", IMAGE), "reference": ("b", png(draw(0, 9, 9)))}),
        await client.post(URL, content=png(poisonous())),
    ]
    return [answer.status_code for answer in answers]


async def behind_a_busy_engine(app: FastAPI, client: httpx.AsyncClient, gate: threading.Event) -> list[int]:
    """Send three uploads to a held engine whose queue holds one, and one more that cannot wait; return the statuses."""
    gate.clear()
    fleet = parts_of(app).fleet
    late = await client.post(URL, content=IMAGE, headers={"X-Request-Timeout-Ms": "200"})
    waits = asyncio.create_task(client.post(URL, content=IMAGE))
    await until(lambda: fleet.queued("retina") == 1)
    refused = await client.post(URL, content=IMAGE)
    gate.set()
    return [answer.status_code for answer in (late, await waits, refused)]


async def test_each_outcome_of_scripted_traffic_is_counted_once(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()
    file = tmp_path / "api-keys"
    key, limited = add_key(file, "a"), {"X-API-Key": add_key(file, "b")}
    app = fake_app(
        [FakeEngine(fake_engine_card("retina"), gate=gate)],
        api_keys=str(file),
        rate_limit=1,
        rate_burst=BURST,
        max_upload_mib=0.1,
        max_queued=1,
        max_batch_size=1,
        upload_timeout_s=0.5,
    )
    async with running(app) as client:
        client.headers["X-API-Key"] = key
        good = [await client.post(URL, content=IMAGE) for _ in range(3)]
        assert [answer.status_code for answer in good] == [200] * 3
        refused = await refused_at_once(client, limited)
        assert refused == [401, 429, 400, 400, 404, 405, 406, 408, 413, 415, 422, 422, 500]
        await hang_up(app, key)
        assert await behind_a_busy_engine(app, client, gate) == [504, 200, 429]
        parts_of(app).drain()
        assert (await client.post(URL, content=IMAGE)).status_code == 503
        requests = await counts(client, "requests_total", "modality", "status")
        reasons = await counts(client, "refused_total", "reason")
        answered = await counts(client, "stage_seconds_count", "stage")
        pixels = await counts(client, "input_pixels_sum")
    expected = {200: 4, 400: 2, 401: 1, 405: 1, 406: 1, 408: 1, 413: 1, 415: 1, 422: 2, 429: 2, 499: 1, 500: 1}
    expected |= {503: 1, 504: 1}
    assert requests == {("retina", str(status)): n for status, n in expected.items()} | {("unknown", "404"): 1}
    assert {*expected, 404} == set(STATUSES)
    assert reasons == dict.fromkeys(
        [
            ("key-needed",),
            ("rate-limited",),
            ("bad-parameter",),
            ("bad-multipart",),
            ("unknown-modality",),
            ("not-acceptable",),
            ("upload-too-slow",),
            ("upload-too-large",),
            ("unknown-image-format",),
            ("damaged-image",),
            ("reference-mismatch",),
            ("overloaded",),
            ("shutting-down",),
            ("own-deadline",),
        ],
        1,
    )
    assert answered == {(stage,): 4 for stage in STAGES}
    assert pixels == {(): 4 * 64 * 64}


async def test_the_stages_of_all_uploads_add_up_to_their_total() -> None:
    async with running(fake_app([FakeEngine(fake_engine_card(), delay_s=0.3)], max_batch_size=2)) as client:
        await asyncio.gather(*(client.post(URL, content=png(draw(seed, 200, 300))) for seed in range(4)))
        seconds = await counts(client, "stage_seconds_sum", "stage")
    total = seconds.pop(("total",))
    assert set(seconds) == {(stage,) for stage in STAGES[:-1]}
    assert sum(seconds.values()) == pytest.approx(total, rel=0.05)

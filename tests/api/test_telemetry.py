"""The metrics after scripted traffic."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.exchange import Exchange
from service.api.telemetry import REASONS, STATUSES, Telemetry
from tests.api.client import fake_app, running
from tests.doubles import FakeEngine, draw, fake_engine_card, mask_of, png

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: httpx.AsyncClient) -> Samples:
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"alnet_{name}", frozenset(labels.items())


def three_modalities() -> list[FakeEngine]:
    return [FakeEngine(fake_engine_card(modality)) for modality in ("retina", "cell", "skin")]


async def test_each_outcome_is_counted_once() -> None:
    async with running(fake_app(max_upload_mib=0.1)) as client:
        before = await scrape(client)
        for _ in range(3):
            await client.post("/segment/retina", content=png(draw()))
        await client.post("/segment/retina", content=b"no image")
        await client.post("/segment/retina", content=b"x" * 200_000)
        await client.post("/segment/retina?threshold=7", content=png(draw()))
        await client.post("/segment/liver", content=png(draw()))
        await client.get("/segment/retina")
        await client.get("/models/retina")
        after = await scrape(client)
    changed = {name: value - before[name] for name, value in after.items() if value != before.get(name)}
    requests = {name: value for name, value in changed.items() if name[0] == "alnet_requests_total"}
    refused = {name: value for name, value in changed.items() if name[0] == "alnet_refused_total"}
    assert requests == {
        key("requests_total", modality="retina", status="200"): 3,
        key("requests_total", modality="retina", status="415"): 1,
        key("requests_total", modality="retina", status="413"): 1,
        key("requests_total", modality="retina", status="400"): 1,
        key("requests_total", modality="retina", status="405"): 1,
        key("requests_total", modality="unknown", status="404"): 1,
    }
    assert refused == {
        key("refused_total", reason="unknown-image-format"): 1,
        key("refused_total", reason="upload-too-large"): 1,
        key("refused_total", reason="bad-parameter"): 1,
        key("refused_total", reason="unknown-modality"): 1,
    }
    assert changed[key("stage_seconds_count", modality="retina", stage="total")] == 3
    assert changed[key("input_pixels_sum")] == 3 * 64 * 64


async def test_what_was_answered_is_measured() -> None:
    pixels = draw()
    engine = FakeEngine(fake_engine_card(unlike_from=1e-6))
    async with running(fake_app([engine])) as client:
        body = (await client.post("/segment/retina", content=png(pixels))).json()
        samples = await scrape(client)
    for stage, milliseconds in body["latency_ms"].items():
        seconds = samples[key("stage_seconds_sum", modality="retina", stage=stage)]
        assert seconds == pytest.approx(milliseconds / 1000, abs=1e-6)
    assert samples[key("foreground_ratio_sum", modality="retina")] == pytest.approx(mask_of(pixels).mean())
    assert samples[key("expected_iou_ratio_sum", modality="retina")] == pytest.approx(body["iou"]["expected"])
    assert samples[key("warnings_total", modality="retina", code="unlike_training_images")] == 1


async def test_the_stages_add_up_to_the_total_however_long_the_body_travels() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield content[:1000]
        await asyncio.sleep(0.3)
        yield content[1000:]

    content = png(draw(0, 500, 500))
    async with running(fake_app([FakeEngine(fake_engine_card(), delay_s=0.3)])) as client:
        latency = (await client.post("/segment/retina", content=body())).json()["latency_ms"]
    total = latency.pop("total")
    assert total >= 300
    assert sum(latency.values()) == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "deadline-exceeded"),
        ({"X-Request-Timeout-Ms": "100"}, "own-deadline"),
        ({"X-Request-Timeout-Ms": "300"}, "deadline-exceeded"),
        ({"X-Request-Timeout-Ms": "60000"}, "deadline-exceeded"),
    ],
)
async def test_a_deadline_that_the_caller_set_is_told_from_the_servers(headers: dict[str, str], reason: str) -> None:
    async with running(fake_app([FakeEngine(fake_engine_card(), delay_s=0.6)], request_timeout_s=0.3)) as client:
        answer = await client.post("/segment/retina", content=png(draw()), headers=headers)
        samples = await scrape(client)
    assert answer.json()["type"] == "urn:alnet:problem:deadline-exceeded"
    counted = {dict(labels)["reason"]: value for (name, labels), value in samples.items() if "refused_total" in name}
    assert {name: value for name, value in counted.items() if value} == {reason: 1}


async def test_what_is_refused_of_a_caller_in_a_hurry_has_its_own_reason() -> None:
    async with running(fake_app()) as client:
        await client.post("/segment/retina", content=b"no image", headers={"X-Request-Timeout-Ms": "20000"})
        samples = await scrape(client)
    counted = {dict(labels)["reason"]: value for (name, labels), value in samples.items() if "refused_total" in name}
    assert {name: value for name, value in counted.items() if value} == {"unknown-image-format": 1}


async def test_batches_are_measured_in_tiles() -> None:
    engine = FakeEngine(fake_engine_card(kind="tile"))
    async with running(fake_app([engine], max_batch_size=4)) as client:
        before = await scrape(client)
        calls = len(engine.batches)
        await client.post("/segment/retina", content=png(draw(0, 128, 128)))
        after = await scrape(client)
    name = key("batch_size_sum", modality="retina")
    assert after[name] - before[name] == sum(engine.batches[calls:]) >= 4


async def test_every_series_exists_before_its_first_event() -> None:
    async with running(fake_app(three_modalities())) as client:
        samples = await scrape(client)
    for modality in ("retina", "cell", "skin", "unknown"):
        for status in STATUSES:
            assert samples[key("requests_total", modality=modality, status=str(status))] == 0
    for reason in REASONS:
        assert samples[key("refused_total", reason=reason)] == 0
    for modality in ("retina", "cell", "skin"):
        assert samples[key("queue_depth", modality=modality)] == 0
        assert samples[key("stage_seconds_count", modality=modality, stage="queue")] == 0
        assert samples[key("warnings_total", modality=modality, code="reference_not_binary")] == 0


async def test_traffic_of_every_kind_adds_no_series() -> None:
    async with running(fake_app(three_modalities())) as client:
        before = await scrape(client)
        for modality in ("retina", "cell", "skin", *map(str, range(9))):
            for content in (png(draw()), b"", b"GIF89a"):
                await client.post(f"/segment/{modality}", content=content)
            await client.put(f"/segment/{modality}", content=b"")
        after = await scrape(client)
    assert set(after) == set(before)


def test_trailers_that_are_too_long_are_a_bad_request_and_no_series_of_their_own() -> None:
    telemetry = Telemetry()
    telemetry.expect(["retina"])
    exchange = Exchange("id", "POST", 0.0, route="/segment/{modality}", modality="retina", status=431)
    telemetry.record_exchange(exchange)
    counted = {"modality": "retina", "status": "400"}
    assert telemetry.registry.get_sample_value("alnet_requests_total", counted) == 1
    assert telemetry.registry.get_sample_value("alnet_requests_total", counted | {"status": "431"}) is None


def test_a_modality_that_comes_later_takes_no_others_place() -> None:
    telemetry = Telemetry()
    for modality in ("retina", "skin"):
        telemetry.expect([modality])
    telemetry.record_exchange(Exchange("id", "POST", 0.0, route="/segment/{modality}", modality="retina", status=200))
    counted = {"modality": "retina", "status": "200"}
    assert telemetry.registry.get_sample_value("alnet_requests_total", counted) == 1


async def test_three_modalities_make_at_most_400_series() -> None:
    async with running(fake_app(three_modalities())) as client:
        samples = await scrape(client)
    assert len(samples) <= 400


async def test_models_are_described() -> None:
    card = fake_engine_card("skin")
    async with running(fake_app([FakeEngine(card)])) as client:
        samples = await scrape(client)
    info = {"modality": "skin", "version": "1", "sha256": card.weights_sha256, "architecture": "al-net"}
    assert samples[key("model_info", **info)] == 1
    assert card.test is not None
    assert samples[key("validated_iou_ratio", modality="skin")] == card.test.iou_mean
    assert samples[key("modality_ready", modality="skin")] == 1
    assert samples[key("ready")] == 1


async def test_the_process_is_described() -> None:
    async with running(fake_app()) as client:
        samples = await scrape(client)
    assert samples[("process_resident_memory_bytes", frozenset())] > 0
    assert samples[("process_open_fds", frozenset())] > 0


async def test_the_event_loop_is_described() -> None:
    async with running(fake_app()) as client:
        before = (await scrape(client))[key("tasks")]
        waiting = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0.1)
        samples = await scrape(client)
        waiting.cancel()
    assert samples[key("tasks")] == before + 1
    assert samples[key("event_loop_lag_seconds_count")] >= 3


async def test_openmetrics_is_given_to_those_who_ask() -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_promtool_finds_no_fault() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package `prometheus`) is not installed")
    async with running(fake_app(three_modalities())) as client:
        await client.post("/segment/retina", content=png(draw()))
        text = (await client.get("/metrics")).content
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_scrapers_who_ask_at_once_share_what_it_costs() -> None:
    """Thousands of them, each over a connection of its own, kept the event loop busy for half a minute."""
    telemetry, written = Telemetry(), 0

    def encode(_registry: object) -> bytes:
        nonlocal written
        written += 1
        return b"%d" % written

    texts = await asyncio.gather(*[telemetry.text_of("text/plain", encode) for _ in range(100)])
    assert set(texts) == {b"1"}
    assert await telemetry.text_of("text/plain", encode) == b"2"


async def test_a_scraper_who_leaves_takes_nothing_from_those_who_ask_with_it() -> None:
    telemetry = Telemetry()
    leaving, staying = (
        asyncio.create_task(telemetry.text_of("text/plain", lambda _registry: b"text")) for _ in range(2)
    )
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == b"text"


async def test_if_metrics_cannot_be_written_whoever_asks_hears_of_it() -> None:
    def encode(_registry: object) -> bytes:
        raise ZeroDivisionError

    async with asyncio.timeout(10):
        with pytest.raises(ZeroDivisionError):
            await Telemetry().text_of("text/plain", encode)

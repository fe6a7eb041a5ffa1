"""POST /segment/{modality}: what comes back for what was sent."""

import asyncio
import base64
import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from anyio import to_thread
from PIL import Image
from starlette.types import Message

from service.api.telemetry import Telemetry
from service.engine.segmenter import Segmentation
from tests.api.client import fake_app, form, parts_of, running
from tests.doubles import POISON, FakeEngine, draw, fake_engine_card, mask_of, png, poisonous, read_png
from tests.waiting import until

pytestmark = pytest.mark.anyio

PNG = {"Accept": "image/png"}


class NotingTelemetry(Telemetry):
    """Keeps what was answered, to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.segmentations: list[Segmentation] = []

    def record_segmentation(self, modality: str, done: Segmentation) -> None:
        super().record_segmentation(modality, done)
        self.segmentations.append(done)


@asynccontextmanager
async def none_of_the_frameworks_threads() -> AsyncIterator[None]:
    """Let whoever asks for a thread of Starlette's or FastAPI's wait until the block's end."""
    threads = to_thread.current_default_thread_limiter()
    tokens = threads.total_tokens
    async with threads:
        threads.total_tokens = 1
        try:
            yield
        finally:
            threads.total_tokens = tokens


def mask_in(answer: httpx.Response) -> np.ndarray[Any, Any]:
    return read_png(base64.b64decode(answer.json()["mask"]["data"]))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.9, 1.0])
async def test_the_mask_is_where_the_probability_reaches_the_threshold(threshold: float) -> None:
    pixels = draw()
    async with running(fake_app()) as client:
        answer = await client.post(f"/segment/retina?threshold={threshold}", content=png(pixels))
    assert answer.status_code == 200
    assert np.array_equal(mask_in(answer), mask_of(pixels, threshold) * np.uint8(255))
    assert answer.json()["model"]["threshold"] == threshold


@pytest.mark.parametrize("accept", ["application/json", "image/png"])
async def test_an_upload_needs_none_of_the_frameworks_threads(accept: str) -> None:
    """A dependency that is no coroutine goes through one: of a burst, all would be let in before any is queued."""
    async with running(fake_app()) as client, none_of_the_frameworks_threads(), asyncio.timeout(30):
        answer = await client.post("/segment/retina", content=png(draw()), headers={"Accept": accept})
        wrong = await client.post("/segment/retina?threshold=1&threshold=0", content=png(draw()))
    assert (answer.status_code, wrong.status_code) == (200, 400)


async def test_the_default_threshold_is_the_checkpoints() -> None:
    pixels = draw()
    async with running(fake_app([FakeEngine(fake_engine_card(threshold=0.8))])) as client:
        answer = await client.post("/segment/retina", content=png(pixels))
    assert np.array_equal(mask_in(answer), mask_of(pixels, 0.8) * np.uint8(255))


async def test_the_json_answer_has_the_contracts_shape() -> None:
    card = fake_engine_card("skin")
    pixels = draw()
    async with running(fake_app([FakeEngine(card)])) as client:
        answer = await client.post("/segment/skin", content=png(pixels), headers={"X-Request-ID": "abc"})
    body = answer.json()
    area = int(mask_of(pixels).sum())
    assert answer.headers["content-type"] == "application/json"
    assert body["request_id"] == "abc"
    assert body["modality"] == "skin"
    assert body["model"] == {
        "version": card.version,
        "architecture": card.architecture,
        "checkpoint_sha256": card.weights_sha256,
        "parameters": card.parameters,
        "threshold": 0.5,
        "intended_use": "Research use only. Not a medical device.",
    }
    assert body["image"] == {"width": 64, "height": 64, "format": "png"}
    assert body["mask"] | {"data": ""} == {
        "media_type": "image/png",
        "encoding": "base64",
        "data": "",
        "label": card.label,
        "area_px": area,
        "area_fraction": pytest.approx(area / 64 / 64),
        "components_left_out": 0,
        "left_out_px": 0,
    }
    assert body["probability"] is None
    assert set(body["latency_ms"]) == {"decode", "queue", "inference", "postprocess", "total"}
    assert body["batch_size"] == 1
    assert body["warnings"] == []


async def test_the_three_ious_are_told_apart() -> None:
    card = fake_engine_card()
    pixels = draw()
    probability = pixels[..., 1] / 255
    inside = mask_of(pixels)
    async with running(fake_app([FakeEngine(card)])) as client:
        answer = await client.post("/segment/retina", content=png(pixels))
    iou = answer.json()["iou"]
    assert card.test is not None
    expected = probability[inside].sum() / (inside.sum() + probability[~inside].sum())
    assert iou == {
        "measured": None,
        "accuracy": None,
        "expected": pytest.approx(expected, abs=1e-3),
        "expected_error": card.test.expected_iou_error,
        "validated": card.test.model_dump(include={"dataset", "split", "n", "iou_mean", "iou_std"}),
    }


async def test_a_checkpoint_without_held_out_images_claims_no_validated_iou() -> None:
    async with running(fake_app([FakeEngine(fake_engine_card(test=None))])) as client:
        iou = (await client.post("/segment/retina", content=png(draw()))).json()["iou"]
    assert iou["validated"] is None
    assert iou["expected_error"] is None


async def test_a_reference_gets_its_iou_and_accuracy_measured() -> None:
    pixels = draw()
    mask = mask_of(pixels)
    reference = mask.copy()
    reference[:32] = False
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", files=form(image=png(pixels), reference=png(reference)))
    iou = answer.json()["iou"]
    assert iou["measured"] == pytest.approx((mask & reference).sum() / (mask | reference).sum())
    assert iou["accuracy"] == pytest.approx((mask == reference).mean())


async def test_a_reference_of_another_size_is_refused() -> None:
    reference = png(np.zeros((32, 64), np.bool_))
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", files=form(image=png(draw()), reference=reference))
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:alnet:problem:reference-mismatch"


async def test_two_empty_masks_agree_and_the_answer_says_so() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    reference = png(np.zeros((64, 64), np.bool_))
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", files=form(image=png(black), reference=reference))
    body = answer.json()
    assert body["iou"]["measured"] == 1.0
    assert len(body["warnings"]) == 1


async def test_an_image_unlike_the_training_images_is_answered_with_a_warning() -> None:
    engine = FakeEngine(fake_engine_card(unlike_from=1e-6))
    async with running(fake_app([engine])) as client:
        answer = await client.post("/segment/retina", content=png(draw()))
    assert answer.status_code == 200
    assert [warning["code"] for warning in answer.json()["warnings"]] == ["unlike_training_images"]


async def test_png_names_the_warnings_too() -> None:
    engine = FakeEngine(fake_engine_card(unlike_from=1e-6))
    files = form(image=png(draw()), reference=png((mask_of(draw()) * 100).astype(np.uint8)))
    grey = form(image=png(draw()), reference=png(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)))
    async with running(fake_app([engine])) as client:
        one = await client.post("/segment/retina", files=files, headers=PNG)
        two = await client.post("/segment/retina", files=grey, headers=PNG)
    assert one.headers["x-segmentation-warnings"] == "unlike_training_images"
    assert two.headers["x-segmentation-warnings"] == "unlike_training_images, reference_not_binary"


async def test_small_components_are_left_out_where_the_checkpoint_does_and_can_be_asked_for() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[5:25, 5:25, 1], pixels[40:45, 40:46, 1], pixels[60:62, 2:4, 1] = 200, 250, 250
    engine = FakeEngine(fake_engine_card(least_component=0.5))
    async with running(fake_app([engine])) as client:
        main = await client.post("/segment/retina?probability=true", content=png(pixels))
        alone = await client.post("/segment/retina", content=png(pixels), headers=PNG)
        every = await client.post("/segment/retina?all_components=true", content=png(pixels))
        whole = await client.post("/segment/retina?all_components=true", content=png(pixels), headers=PNG)
    kept = np.zeros((64, 64), np.uint8)
    kept[5:25, 5:25] = 255
    assert np.array_equal(mask_in(main), kept)
    told = {name: main.json()["mask"][name] for name in ("area_px", "components_left_out", "left_out_px")}
    assert told == {"area_px": 400, "components_left_out": 2, "left_out_px": 34}
    probability = read_png(base64.b64decode(main.json()["probability"]["data"]))
    assert np.array_equal(probability, pixels[..., 1])  # the map shows what was left out
    assert np.array_equal(read_png(alone.content), kept)
    assert alone.headers["x-segmentation-components-left-out"] == "2"
    assert np.array_equal(mask_in(every), mask_of(pixels) * np.uint8(255))
    assert (every.json()["mask"]["area_px"], every.json()["mask"]["components_left_out"]) == (434, 0)
    assert "x-segmentation-components-left-out" not in whole.headers


async def test_the_probability_comes_on_request() -> None:
    pixels = draw()
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina?probability=true", content=png(pixels))
    probability = answer.json()["probability"]
    assert probability["media_type"] == "image/png"
    assert probability["encoding"] == "base64"
    assert np.array_equal(read_png(base64.b64decode(probability["data"])), pixels[..., 1])


async def test_a_large_answer_is_put_together_like_a_small_one() -> None:
    engine = FakeEngine(fake_engine_card(kind="tile"))
    pixels = draw(height=640, width=704)
    async with running(fake_app([engine])) as client:
        answer = await client.post("/segment/retina?probability=true", content=png(pixels))
    assert len(answer.content) > 300_000
    assert mask_in(answer).shape == (640, 704)


async def test_png_is_the_mask_alone() -> None:
    pixels = draw()
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina?probability=true", content=png(pixels), headers=PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-segmentation-model"] == "retina/1"
    assert 0 <= float(answer.headers["x-segmentation-iou-expected"]) <= 1
    assert "x-segmentation-iou-measured" not in answer.headers
    assert "x-segmentation-warnings" not in answer.headers
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.mode == "L"
        assert image.info == {}
    assert np.array_equal(read_png(answer.content), mask_of(pixels) * np.uint8(255))


@pytest.mark.parametrize(("accept", "is_drawn"), [("application/json", True), ("image/png", False)])
async def test_no_probability_map_is_drawn_for_an_answer_that_has_no_place_for_it(accept: str, is_drawn: bool) -> None:
    app, telemetry = fake_app(), NotingTelemetry()
    app.state.parts = replace(parts_of(app), telemetry=telemetry)
    async with running(app) as client:
        await client.post("/segment/retina?probability=true", content=png(draw()), headers={"Accept": accept})
    [done] = telemetry.segmentations
    assert (done.probability_png is not None) == is_drawn


@pytest.mark.parametrize(("is_right", "iou"), [(True, "1.0000"), (False, "0.0000")])
async def test_png_names_the_measured_iou_of_a_reference(is_right: bool, iou: str) -> None:
    pixels = draw()
    files = form(image=png(pixels), reference=png(mask_of(pixels) == is_right))
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", files=files, headers=PNG)
    assert answer.headers["x-segmentation-iou-measured"] == iou


async def test_json_and_png_a_form_and_a_raw_body_all_give_the_same_mask() -> None:
    image = png(draw())
    async with running(fake_app()) as client:
        masks = [
            (await client.post("/segment/retina", content=image, headers=PNG)).content,
            (await client.post("/segment/retina", files=form(image=image), headers=PNG)).content,
            base64.b64decode((await client.post("/segment/retina", content=image)).json()["mask"]["data"]),
        ]
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "text/plain", "application/json", "application/x-www-form-urlencoded", ""]
)
async def test_the_bytes_decide_whatever_the_content_type_says(content_type: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw()), headers={"Content-Type": content_type})
    assert answer.status_code == 200
    assert answer.json()["image"]["format"] == "png"


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (300, 20)])
async def test_the_mask_lies_on_the_uploads_own_grid(size: tuple[int, int]) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw(0, *size)), headers=PNG)
    assert read_png(answer.content).shape == size


async def test_an_unknown_modality_is_told_which_are_served() -> None:
    async with running(
        fake_app([FakeEngine(fake_engine_card("retina")), FakeEngine(fake_engine_card("cell"))])
    ) as client:
        answer = await client.post("/segment/liver", content=png(draw()))
    assert answer.status_code == 404
    assert "retina" in answer.json()["detail"]
    assert "cell" in answer.json()["detail"]
    assert "liver" not in answer.text


async def test_one_of_several_frames_must_be_picked() -> None:
    frames = [Image.fromarray(draw(seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    async with running(fake_app()) as client:
        unpicked = await client.post("/segment/retina", content=buffer.getvalue())
        picked = await client.post("/segment/retina?frame=2", content=buffer.getvalue(), headers=PNG)
    assert unpicked.status_code == 422
    assert np.array_equal(read_png(picked.content), mask_of(draw(2)) * np.uint8(255))


async def test_an_image_that_the_network_cannot_be_run_on_fails_alone() -> None:
    async with running(fake_app()) as client:
        bad = await client.post("/segment/retina", content=png(poisonous()))
        good = await client.post("/segment/retina", content=png(draw()))
    assert bad.status_code == 500
    assert "poisonous" not in bad.text
    assert good.status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "threshold=nan",
        "threshold=inf",
        "threshold=2",
        "threshold=high",
        "threshold=",
        "probability=maybe",
        "all_components=maybe",
        "frame=-1",
        "frame=first",
    ],
)
async def test_a_parameter_out_of_its_range_is_named_but_not_repeated(query: str) -> None:
    name, _, value = query.partition("=")
    async with running(fake_app()) as client:
        answer = await client.post(f"/segment/retina?{query}", content=png(draw()))
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:alnet:problem:bad-parameter"
    assert answer.json()["detail"].startswith(name)
    assert not value or f"'{value}'" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "headers", "name"),
    [
        ("threshold=0.1&threshold=0.9", [], "threshold"),
        ("threshold=abc&threshold=0.5", [], "threshold"),
        ("probability=true&probability=true", [], "probability"),
        ("frame=0&frame=3", [], "frame"),
        ("", [("X-Request-Timeout-Ms", "5000"), ("x-request-timeout-ms", "1")], "X-Request-Timeout-Ms"),
    ],
)
async def test_a_parameter_that_is_sent_twice_is_refused(query: str, headers: list[tuple[str, str]], name: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.post(f"/segment/retina?{query}", content=png(draw()), headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, f"{name} was sent more than once")


async def test_unknown_query_parameters_are_ignored() -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina?colour=blue", content=png(draw()))
    assert answer.status_code == 200


@pytest.mark.parametrize("timeout_ms", ["0", "-5", "nan", "inf", "soon"])
async def test_a_deadline_must_be_a_positive_number(timeout_ms: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw()), headers={"X-Request-Timeout-Ms": timeout_ms})
    assert answer.status_code == 400


async def test_server_timing_lists_the_stages() -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw()))
    stages = [entry.split(";")[0].strip() for entry in answer.headers["server-timing"].split(",")]
    assert stages == ["decode", "queue", "inference", "postprocess", "total"]


async def test_no_body_travels_for_an_upload_that_cannot_be_had() -> None:
    lost = RuntimeError("CUDA error: device-side assert triggered")
    taken, url = list[bytes](), "/segment/retina"

    async def body() -> AsyncIterator[bytes]:
        taken.append(png(draw()))
        yield taken[0]

    async with running(fake_app([FakeEngine(fake_engine_card(), raises={POISON: lost})])) as client:
        answers = [await client.post(url, content=png(poisonous())), await client.post(url, content=body())]
    assert [answer.json()["type"] for answer in answers] == ["urn:alnet:problem:device-lost"] * 2
    assert taken == []


async def test_an_upload_whose_caller_hangs_up_while_it_waits_is_never_run() -> None:
    gate, has_left = threading.Event(), asyncio.Event()
    gate.set()
    engine = FakeEngine(fake_engine_card("retina"), gate=gate)
    app = fake_app([engine], max_batch_size=1)
    upload: list[Message] = [{"type": "http.request", "body": png(draw()), "more_body": False}]

    async def receive() -> Message:
        if upload:
            return upload.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/segment/retina",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png")],
        "client": ("192.0.2.1", 1),
    }
    async with running(app) as client:
        gate.clear()
        warm_ups = len(engine.batches)
        runs = asyncio.create_task(client.post("/segment/retina", content=png(draw())))
        await until(lambda: len(engine.batches) > warm_ups)
        waits = asyncio.create_task(app(scope, receive, send))
        await until(lambda: parts_of(app).fleet.queued("retina") == 1)
        has_left.set()
        await asyncio.wait([waits], timeout=10)
        gate.set()
        assert (await runs).status_code == 200
        await waits
    assert len(engine.batches) == warm_ups + 1

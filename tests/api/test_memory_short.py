"""Memory that is short for one upload: its caller is told, nothing of it is kept, and nobody else notices."""

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest

from service.api import answers, upload
from service.engine import image_work
from service.engine.image_work import ImageWork
from service.imaging import levels, placement
from tests.api.client import fake_app, form, parts_of, running
from tests.api.test_problems import a_problem
from tests.doubles import FakeEngine, draw, fake_engine_card, png
from tests.waiting import until

pytestmark = pytest.mark.anyio

URL = "/segment/retina"
IMAGE = png(draw())
PLACES = [
    (upload, "BytesIO"),
    (ImageWork, "is_large"),
    (ImageWork, "before"),
    (levels, "to_rgb"),
    (image_work, "prepare"),
    (image_work, "encode_png"),
    (answers, "_json_bytes"),
]


def short(*_arguments: Any, **_options: Any) -> Any:
    np.empty(1 << 60, np.uint8)  # numpy has a MemoryError of its own


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
async def test_want_of_memory_is_told_and_the_next_upload_is_answered(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    app = fake_app()
    parts = parts_of(app)
    async with running(app) as client:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, short)
            answer = await client.post(URL, content=IMAGE)
        detail = a_problem(answer, 503, "urn:alnet:problem:memory-short")
        assert "memory is too short" in detail
        assert answer.headers["retry-after"] == "1"
        assert (parts.traffic.in_flight, parts.bodies._held, parts.fleet.queued("retina")) == (0, 0, 0)
        assert (await client.post(URL, content=IMAGE)).status_code == 200
        metrics = (await client.get("/metrics")).text
    assert 'alnet_refused_total{reason="memory-short"} 1.0' in metrics
    assert 'alnet_requests_total{modality="retina",status="503"} 1.0' in metrics


@pytest.mark.parametrize(
    ("fault", "status"),
    [("<ufunc 'greater_equal'> returned NULL without setting an exception", 503), ("bad argument", 500)],
)
async def test_what_numpy_does_not_call_by_its_name_is_want_of_memory_too(
    monkeypatch: pytest.MonkeyPatch, fault: str, status: int
) -> None:
    def fail(*_: Any) -> None:
        raise SystemError(fault)

    monkeypatch.setattr(image_work, "foreground", fail)
    async with running(fake_app()) as client:
        assert (await client.post(URL, content=IMAGE)).status_code == status


async def test_want_of_memory_for_a_reference_is_no_fault_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "foreground", short)
    async with running(fake_app()) as client:
        answer = await client.post(URL, files=form(image=IMAGE, reference=IMAGE))
    a_problem(answer, 503, "urn:alnet:problem:memory-short")


async def test_who_is_queued_beside_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    app = fake_app([FakeEngine(fake_engine_card(), delay_s=0.05)])
    before, large = ImageWork.before, png(draw(1, 96, 96))

    def short_of_large(work: ImageWork, upload: image_work.Upload) -> image_work.Prepared:
        return short() if upload.image == large else before(work, upload)

    monkeypatch.setattr(ImageWork, "before", short_of_large)
    async with running(app) as client:
        bodies = [IMAGE, large, IMAGE, large, IMAGE]
        got = await asyncio.gather(*[client.post(URL, content=body) for body in bodies])
    assert [answer.status_code for answer in got] == [200, 503, 200, 503, 200]


async def test_what_an_upload_had_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Any]] = []
    restore = placement.restore

    def noting(*arguments: Any) -> Any:
        probability = restore(*arguments)
        kept.append(weakref.ref(probability))
        return probability

    monkeypatch.setattr(image_work, "restore", noting)
    monkeypatch.setattr(image_work, "encode_png", short)
    gc.disable()
    try:
        async with running(fake_app()) as client:
            assert (await client.post(URL, content=IMAGE)).status_code == 503
            await until(lambda: kept[0]() is None)
    finally:
        gc.enable()

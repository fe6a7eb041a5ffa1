"""The plain handler, which the others are compared with, does the work of our server and answers as FastAPI does."""

import asyncio
from pathlib import Path

import httpx
import numpy as np

from peers.fake_engine import POISON, FakeEngine
from peers.pictures import GOOD, flat
from peers.plain_server import create_app
from peers.work import Network, Pixels
from tests.doubles import fake_engine_card, read_png


def post(seen: Path, body: bytes) -> httpx.Response:
    engine = FakeEngine(fake_engine_card(), seen)
    app = create_app(Pixels(engine.card), Network(engine, largest_batch=1))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/segment", content=body, headers={"Content-Type": "image/png"})

    return asyncio.run(send())


def test_an_upload_is_answered_with_its_mask(tmp_path: Path) -> None:
    answer = post(tmp_path / "seen", flat(GOOD))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert (read_png(answer.content) == np.full((64, 64), 255)).all()


def test_what_cannot_be_decoded_is_the_callers_fault(tmp_path: Path) -> None:
    assert post(tmp_path / "seen", b"no image").status_code == 422


def test_what_the_network_cannot_run_is_the_servers_fault(tmp_path: Path) -> None:
    assert post(tmp_path / "seen", flat(POISON)).status_code == 500

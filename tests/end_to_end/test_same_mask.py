"""One upload has one mask, bit for bit: alone or in a full batch, before and after a swap, as PNG and in JSON."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.imaging.policy import InputPolicy
from service.imaging.statistics import FEATURES
from service.store.card import TrainingImages
from service.store.pin import write_pin
from tests.checkpoints import publish_tiny
from tests.doubles import draw, png, read_png
from tests.end_to_end.server_process import PATIENCE_S, Caller, ServerProcess, until

LIKE_ANYTHING = TrainingImages(features=FEATURES, mean=(1.0,) * len(FEATURES), scale=(1.0,) * len(FEATURES), limit=1e6)
GRID = InputPolicy(kind="tile", height=224, width=320, overlap=16)
FULL_BATCH = 8
IMAGE = png(draw(0, 200, 290))
"""One tile."""

LARGE = png(draw(1, 1400, 1400))
"""Thirty-five tiles: while they wait every batch is full, and another upload's tile is in the next one."""

TRIES = 20
ASKS = 20

Mask = NDArray[np.uint8]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions that have the same weights."""
    folder = tmp_path_factory.mktemp("store")
    for version in ("1", "2"):
        publish_tiny(folder, "retina", seed=1, version=version, input=GRID, training_images=LIKE_ANYTHING)
    return folder


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def server(store: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(
        "serve",
        module="service.cli",
        store=store,
        store_poll_s=0.05,
        device="cpu",
        precision=request.param,
        threads=1,
        max_batch_size=FULL_BATCH,
    ) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0


def from_json(answer: httpx.Response) -> tuple[Mask, Mask]:
    """Return the mask and the probabilities that a JSON answer holds."""
    assert answer.status_code == 200
    mask, probability = (base64.b64decode(answer.json()[name]["data"]) for name in ("mask", "probability"))
    return read_png(mask), read_png(probability)


def ask(server: ServerProcess, threshold: float, accept: str = "application/json") -> httpx.Response:
    return httpx.post(
        f"{server.url}/segment/retina",
        params={"probability": "true", "threshold": threshold},
        content=IMAGE,
        headers={"Accept": accept},
        timeout=PATIENCE_S,
    )


def in_a_full_batch(server: ServerProcess, threshold: float) -> httpx.Response:
    """Ask while a large upload's tiles wait, so that the batch is full; its size is in the answer."""
    for _ in range(TRIES):
        large = Caller(server, LARGE)
        answers = [ask(server, threshold) for _ in range(ASKS)]  # it has to be decoded first
        assert large.answer().status_code == 200
        full = [answer for answer in answers if answer.json()["batch_size"] == FULL_BATCH]
        if full:
            return full[0]
    raise AssertionError("no batch was full")


def serve_version(server: ServerProcess, store: Path, version: str) -> None:
    write_pin(store, "retina", version)
    until(lambda: server.get("/models/retina").json()["version"] == version)


def test_one_upload_has_one_mask_however_it_is_asked_for(server: ServerProcess, store: Path) -> None:
    serve_version(server, store, "1")
    levels = from_json(ask(server, 0.5))[1]
    middle = (int(levels.min()) + int(levels.max())) / 2 / 255  # random weights may find foreground everywhere
    alone = ask(server, middle)
    assert alone.json()["batch_size"] == 1
    mask, probability = from_json(alone)
    assert 0 < np.count_nonzero(mask) < mask.size

    assert (read_png(ask(server, middle, "image/png").content) == mask).all()

    serve_version(server, store, "2")
    after_a_swap = ask(server, middle)
    assert after_a_swap.json()["model"]["version"] == "2"
    serve_version(server, store, "1")
    for answer in (after_a_swap, ask(server, middle), in_a_full_batch(server, middle)):
        other_mask, other_probability = from_json(answer)
        assert (other_probability == probability).all()
        assert (other_mask == mask).all()

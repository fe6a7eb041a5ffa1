"""Images of 4096 × 4096 pixels, in tiles through the same batcher as everybody's, of a real server process."""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.doubles import Colour, Pixels, draw, flat, mask_of, png, read_png
from tests.end_to_end.server_process import PATIENCE_S, ServerProcess, until

pytestmark = pytest.mark.timed

BATCH_SIZE = 8
TILES = 81
"""Of 512 × 512 that overlap by 64: nine in each direction."""

Batch = list[Colour]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that takes images of cells in tiles, and says what is in each batch."""
    with ServerProcess(
        "--modalities", "cell", "--tiled", "cell", "--log-batches", max_batch_size=BATCH_SIZE
    ) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0


@pytest.fixture(scope="module")
def micrograph() -> Pixels:
    """A grey image, uint8 (4096, 4096, 3): blocks of noise, so that it is quickly encoded."""
    grey = np.kron(draw(0, 512, 512)[..., 1], np.ones((8, 8), np.uint8))
    return np.repeat(grey[..., None], 3, axis=2)


def batches(server: ServerProcess) -> list[Batch]:
    """Return the first pixel of each tile of each batch so far."""
    lines = [json.loads(line) for line in server.out]
    return [[tuple(colour) for colour in line["batch"]] for line in lines if "batch" in line]


def segment(server: ServerProcess, pixels: Pixels) -> httpx.Response:
    headers = {"Accept": "image/png"}
    return httpx.post(f"{server.url}/segment/cell", content=png(pixels), headers=headers, timeout=PATIENCE_S)


def queued(server: ServerProcess) -> float:
    return server.metric("alnet_queue_depth", modality="cell")


def test_a_large_image_is_answered_on_its_own_grid(server: ServerProcess, micrograph: Pixels) -> None:
    before = len(batches(server))
    answer = segment(server, micrograph)
    assert (read_png(answer.content) == 255 * mask_of(micrograph)).all()
    assert sum(map(len, batches(server)[before:])) == TILES


def test_small_images_that_come_behind_a_large_one_take_turns_with_its_tiles(
    server: ServerProcess, micrograph: Pixels
) -> None:
    colours: list[Colour] = [(200, number, 10) for number in range(20)]
    before = len(batches(server))
    with ThreadPoolExecutor(1 + len(colours)) as callers:
        with server.held():
            large = callers.submit(segment, server, micrograph)
            until(lambda: len(batches(server)) == before + 1)
            small = [callers.submit(segment, server, flat(colour)) for colour in colours]
            until(lambda: queued(server) == 1 + len(colours))
        assert [call.result().status_code for call in (large, *small)] == [200] * (1 + len(colours))
    held, *then = batches(server)[before:]
    assert len(held) == BATCH_SIZE
    turns = math.ceil((1 + len(colours)) / BATCH_SIZE)
    assert set(colours) <= {colour for batch in then[:turns] for colour in batch}
    assert [len(batch) for batch in then[:-1]] == [BATCH_SIZE] * (len(then) - 1)  # nor does the large one wait idly
    assert len(held) + sum(map(len, then)) == TILES + len(colours)

"""Images that cost more than they seem to, many at a time: the answers, the memory, and what good callers feel."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from service.api import problems
from service.benchmark.uploads import draw_uploads
from service.engine.image_work import LARGE_PIXELS
from service.imaging.decode import decode
from tests.doubles import draw, png
from tests.end_to_end.hostile_images import IMAGES, LIMIT_PIXELS, SIDE, noise, saved
from tests.end_to_end.process_memory import peak_bytes, reset_peak, resident_bytes
from tests.end_to_end.server_process import PATIENCE_S, ServerProcess, upload

pytestmark = pytest.mark.timed

GOOD = png(draw())
BATCH_S, DECODING_S = 0.05, 0.001
"""What a batch takes where decoding one of the uploads of `alnet benchmark serve` takes so long; see `batch_s`.
The latter was never measured on the machines that the 50 ms are for: it follows from a third of a slow one's 3.4 ms."""

TRIES = 3
"""A busy machine may delay anything once; what holds at least once in so many tries is in the server's power."""

DECODE_THREADS = 2
UPLOAD_BYTES = 2**20
HOSTILE_CALLERS = 8
HEAVY_CALLERS = 3
"""More than there are threads: who send nothing but sound images, each of which takes a thread for long."""

HOSTILE_PAUSE_S = 0.01
"""Between an answer and the next request, so that caller and server do not merely compete for the machine's cores."""

DECODING_BYTES = ((DECODE_THREADS - 1) * LIMIT_PIXELS + DECODE_THREADS * LARGE_PIXELS) * (10 + 3)
"""What the settings admit at once: in each thread, for large and for other images, one of them, and while it is kept,
its reference (see `decode`)."""
BODY_BYTES = HOSTILE_CALLERS * 2 * UPLOAD_BYTES
"""Bodies as they are received, and joined."""
MOST_GROWTH_BYTES = DECODING_BYTES + BODY_BYTES + 100 * 2**20


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body, and how long it took."""

    status: int
    body: bytes
    seconds: float


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {name: image() for drawn in IMAGES.values() for name, image in drawn.items()}


@cache
def batch_s() -> float:
    """Return how long the engine takes for a batch: 50 ms, or longer where pixels take longer, as networks do there.

    Else good callers on a slow machine would wait for hostile images as long as they do, and for the engine no longer.
    """
    [image] = draw_uploads("cell", 1)
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        decode(image.content, max_pixels=LIMIT_PIXELS)
        taken.append(time.perf_counter() - began)
    return BATCH_S * max(1.0, min(taken) / DECODING_S)


@pytest.fixture(scope="module")
def besieged() -> Iterator[ServerProcess]:
    """A server whose limits the hostile images are drawn for."""
    with ServerProcess(
        "--delay-s",
        str(batch_s()),
        max_batch_size=16,
        decode_threads=DECODE_THREADS,
        max_image_megapixels=LIMIT_PIXELS / 1e6,
        max_upload_mib=UPLOAD_BYTES / 2**20,
    ) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0
    assert "Traceback" not in "".join(running.err)


@pytest.fixture(scope="module")
def roomy() -> Iterator[ServerProcess]:
    """A server that takes images of up to 40 megapixels."""
    with ServerProcess("--delay-s", str(batch_s()), max_batch_size=16, decode_threads=DECODE_THREADS) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0


def photographs(height: int, width: int) -> list[bytes]:
    """Return one sound image of many pixels, in blocks of noise, as JPEG and PNG."""
    blocks = np.kron(noise(height // 40, width // 40, 3), np.ones((40, 40, 1), np.uint8))
    return [saved(blocks, "JPEG"), saved(blocks, "PNG", compress_level=1)]


async def call(server: ServerProcess, request: bytes) -> Reply:
    """Send a request, which has to ask for the connection's end."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, body = answer.split(b"\r\n\r\n", 1)
    return Reply(int(head.split()[1]), body, time.monotonic() - began)


def alone(image: bytes) -> bytes:
    return upload(image, "Connection: close")


def beside_a_reference(image: bytes, reference: bytes) -> bytes:
    """Return a request with a form of both files."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in (("image", image), ("reference", reference))
    ]
    body = b"".join(parts) + b"--limit--\r\n"
    return upload(body, "Content-Type: multipart/form-data; boundary=limit", "Connection: close")


async def _at_once(server: ServerProcess, requests: list[bytes], callers: int) -> list[Reply]:
    """Send all requests, so many at a time."""
    free = asyncio.Semaphore(callers)

    async def one(request: bytes) -> Reply:
        async with free:
            return await call(server, request)

    async with asyncio.timeout(PATIENCE_S):
        return list(await asyncio.gather(*[one(request) for request in requests]))


def test_each_hostile_image_gets_the_answer_it_deserves(besieged: ServerProcess, images: dict[str, bytes]) -> None:
    replies = asyncio.run(_at_once(besieged, [alone(image) for image in images.values()], HOSTILE_CALLERS))
    statuses = {name: reply.status for name, reply in zip(images, replies, strict=True)}
    assert statuses == {name: status for status, drawn in IMAGES.items() for name in drawn}
    for reply in replies:
        assert reply.status == 200 or json.loads(reply.body)["status"] == reply.status


def test_hostile_images_as_references_are_refused_or_measured(
    besieged: ServerProcess, images: dict[str, bytes]
) -> None:
    requests = [beside_a_reference(GOOD, image) for image in images.values()]
    replies = asyncio.run(_at_once(besieged, requests, HOSTILE_CALLERS))
    allowed = {200, *problems.STATUS.values()} - {500, 503, 504}
    assert {
        name: reply.status for name, reply in zip(images, replies, strict=True) if reply.status not in allowed
    } == {}


def test_memory_stays_within_what_the_limits_admit(besieged: ServerProcess, images: dict[str, bytes]) -> None:
    asyncio.run(_at_once(besieged, [alone(GOOD)] * HOSTILE_CALLERS, HOSTILE_CALLERS))
    before = resident_bytes(besieged.pid)
    reset_peak(besieged.pid)
    largest = images["TIFF of RGBA at the limit"]
    requests = [alone(image) for image in images.values()] + [beside_a_reference(largest, largest)] * HOSTILE_CALLERS
    asyncio.run(_at_once(besieged, requests, HOSTILE_CALLERS))
    assert peak_bytes(besieged.pid) - before <= MOST_GROWTH_BYTES


def test_good_callers_alongside_hardly_wait_longer(besieged: ServerProcess, images: dict[str, bytes]) -> None:
    photographers = [photographs(SIDE, SIDE)] * HEAVY_CALLERS
    _check_p99(besieged, sieges(images) + photographers, set(IMAGES))


def test_good_callers_alongside_images_of_40_megapixels_hardly_wait_longer(roomy: ServerProcess) -> None:
    _check_p99(roomy, [photographs(6240, 6400)] * HEAVY_CALLERS, {200})


def sieges(images: dict[str, bytes]) -> list[list[bytes]]:
    """Return what each of five hostile callers sends: one the images that are decoded in full, the others all else."""
    decoded = [images[name] for name in IMAGES[200]]
    refused = [image for name, image in images.items() if name not in IMAGES[200]]
    return [decoded, *(refused[at:] + refused[:at] for at in range(0, 28, 7))]


def _check_p99(server: ServerProcess, sieges: list[list[bytes]], statuses: set[int]) -> None:
    """Compare good callers alone with good callers amid the sieges, which are answered with all of these statuses."""
    measured = []
    for _ in range(TRIES):
        undisturbed, disturbed = asyncio.run(_p99_s(server, [], set())), asyncio.run(_p99_s(server, sieges, statuses))
        measured.append((undisturbed, disturbed))
        if disturbed <= 2 * undisturbed:
            return
    pytest.fail(f"p99 alone and alongside, in seconds: {measured}")


async def _p99_s(server: ServerProcess, sieges: list[list[bytes]], statuses: set[int]) -> float:
    """Return the 99th percentile of the times of 200 good uploads, eight at a time, in the midst of these sieges."""
    hostile_statuses = set()

    async def besiege(images: list[bytes]) -> None:
        for image in itertools.cycle(images):
            hostile_statuses.add((await call(server, alone(image))).status)
            await asyncio.sleep(HOSTILE_PAUSE_S)

    async with asyncio.timeout(PATIENCE_S):
        besieging = [asyncio.create_task(besiege(images)) for images in sieges]
        replies = await _at_once(server, [alone(GOOD)] * 200, callers=8)
        while not statuses <= hostile_statuses:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(HOSTILE_PAUSE_S)
        for task in besieging:
            task.cancel()
        await asyncio.gather(*besieging, return_exceptions=True)
    assert {reply.status for reply in replies} == {200}
    assert hostile_statuses == statuses
    return sorted(reply.seconds for reply in replies)[-3]

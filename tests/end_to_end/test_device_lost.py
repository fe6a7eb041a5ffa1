"""The device is lost under a real server process: everyone hears it, and the process ends for its supervisor."""

import time

import httpx
import pytest

from service.api.server import EXIT_DEVICE_LOST
from tests.doubles import draw, flat, png
from tests.end_to_end.fake_server import CUDA_FAULT, END_OF_THREAD
from tests.end_to_end.server_process import Caller, ServerProcess, read_all, until, upload

pytestmark = pytest.mark.timed

IMAGE = png(draw())


@pytest.mark.parametrize(
    ("colour", "reason"),
    [(CUDA_FAULT, "device-side assert triggered"), (END_OF_THREAD, "its thread was ended by SystemExit")],
)
def test_all_hear_that_the_device_is_lost_and_the_process_ends_with_an_error(
    colour: tuple[int, int, int], reason: str
) -> None:
    with ServerProcess(max_batch_size=4) as server, server.client() as client, server.connection() as half_sent:
        server.wait_ready()
        half_sent.sendall(upload(IMAGE)[:-100])
        with server.held():
            first = Caller(server, IMAGE)  # keeps the device busy until the others wait
            until(lambda: server.in_flight == 2 and server.waiting == 0)
            fatal = Caller(server, png(flat(colour)))
            until(lambda: server.waiting == 1)
            waiting = [Caller(server, IMAGE) for _ in range(15)]
            until(lambda: server.waiting == 16)
        lost_at = time.monotonic()
        ready, ready_s = first_not_ready(client), time.monotonic() - lost_at
        alive, late = client.get("/livez"), client.post("/segment/retina", content=IMAGE)
        answers = [caller.answer() for caller in (fatal, *waiting)]
        assert first.answer().status_code in (200, 503)
        stalled = read_all(half_sent)
        exit_code, exit_s = server.exit_code(), time.monotonic() - lost_at
    assert ready_s <= 1
    assert ready.json()["detail"] == f"the device network is lost: {reason}"
    assert alive.status_code == 200
    for answer in (ready, late, *answers):
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
    assert {answer.json()["type"] for answer in (late, *answers)} == {"urn:alnet:problem:device-lost"}
    assert stalled.startswith(b"HTTP/1.1 503 ")
    assert exit_code == EXIT_DEVICE_LOST
    assert exit_s <= 5
    assert reason in "".join(server.err)


def first_not_ready(client: httpx.Client) -> httpx.Response:
    """Ask until the answer is that the server is not ready, and return that answer."""
    while (answer := client.get("/readyz")).status_code == 200:
        time.sleep(0.01)
    return answer


@pytest.mark.parametrize("options", [["--lost"], ["--lost", "--threadless"]], ids=" ".join)
def test_a_device_that_is_lost_before_the_first_upload_ends_the_process_too(options: list[str]) -> None:
    with ServerProcess(*options) as server:
        assert server.exit_code() == EXIT_DEVICE_LOST
    assert "device-side assert triggered" in "".join(server.err)


def test_a_device_that_is_lost_while_the_server_drains_ends_the_process_with_the_same_error() -> None:
    with ServerProcess() as server, server.client() as client, server.connection() as half_sent:
        server.wait_ready()
        half_sent.sendall(upload(IMAGE)[:-100])
        with server.held():
            first = Caller(server, IMAGE)
            until(lambda: server.in_flight == 2 and server.waiting == 0)
            fatal = Caller(server, png(flat(CUDA_FAULT)))
            until(lambda: server.waiting == 1)
            server.terminate()
            until(lambda: client.get("/readyz").status_code == 503)
        lost_at = time.monotonic()
        assert first.answer().status_code in (200, 503)
        assert fatal.answer().json()["type"] == "urn:alnet:problem:device-lost"
        assert read_all(half_sent).startswith(b"HTTP/1.1 503 ")
        assert server.exit_code() == EXIT_DEVICE_LOST
        assert time.monotonic() - lost_at <= 5


def test_sigterm_after_the_device_was_lost_does_not_make_it_a_success() -> None:
    with ServerProcess() as server, server.client() as client:
        server.wait_ready()
        Caller(server, png(flat(CUDA_FAULT))).answer()
        assert "is lost" in client.get("/readyz").json()["detail"]
        server.terminate()
        assert server.exit_code() == EXIT_DEVICE_LOST

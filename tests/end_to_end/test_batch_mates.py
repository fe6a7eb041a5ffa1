"""Callers in one batch of a real server process do not suffer from each other, whoever of them is bad or leaves."""

import socket
from collections.abc import Iterator

import pytest

from tests.doubles import draw, flat, mask_of, png, poisonous, read_png
from tests.end_to_end.fake_server import BLACK
from tests.end_to_end.server_process import PATIENCE_S, Caller, ServerProcess, busy, read_all, until, upload

pytestmark = pytest.mark.timed

IMAGES = [draw(seed) for seed in range(8)]
BATCH_S = 0.05


@pytest.fixture(scope="module")
def batches_of_8() -> Iterator[ServerProcess]:
    with ServerProcess(max_batch_size=8) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0
    assert "Exception in ASGI application" not in "".join(running.err)


def test_one_poisonous_upload_among_eight_fails_alone(batches_of_8: ServerProcess) -> None:
    images = IMAGES[:7]
    with busy(batches_of_8, png(IMAGES[0])):
        good = [Caller(batches_of_8, png(image), Accept="image/png") for image in images[:4]]
        bad = Caller(batches_of_8, png(poisonous()))
        good += [Caller(batches_of_8, png(image), Accept="image/png") for image in images[4:]]
        until(lambda: batches_of_8.waiting == 8)
    assert bad.answer().status_code == 500
    assert bad.answer().json()["type"] == "urn:alnet:problem:engine-failed"
    for image, caller in zip(images, good, strict=True):
        assert caller.answer().status_code == 200
        assert (read_png(caller.answer().content) == mask_of(image) * 255).all()


def test_when_memory_runs_out_batches_are_halved_and_stay_so_and_everyone_is_answered() -> None:
    with ServerProcess("--room", "3", max_batch_size=8) as server:
        server.wait_ready()
        failed = []
        for _ in range(2):
            with busy(server, png(IMAGES[0])):
                callers = [Caller(server, png(image)) for image in IMAGES]
                until(lambda: server.waiting == 8)
            answers = [caller.answer() for caller in callers]
            assert [answer.status_code for answer in answers] == [200] * 8
            assert max(answer.json()["batch_size"] for answer in answers) == 2
            failed.append(server.metric("alnet_failed_batches_total", modality="retina"))
        server.terminate()
        assert server.exit_code() == 0
    assert failed == [2, 2]  # of 8 and of 4, once; then the cap of 2 is known


def test_half_of_a_running_batch_hangs_up_200_times_and_no_survivor_fails() -> None:
    survived = 0
    with ServerProcess("--delay-s", str(BATCH_S), "--log-batches", max_batch_size=8) as server:
        server.wait_ready()
        for _ in range(200):
            with busy(server, png(flat(BLACK))):  # so that the eight wait, and are one batch
                callers = [socket.create_connection((server.host, server.port), timeout=PATIENCE_S) for _ in IMAGES]
                for caller, image in zip(callers, IMAGES, strict=True):
                    caller.sendall(upload(png(image), "Accept: image/png", "Connection: close"))
                until(lambda: server.waiting == 8)
                begun = len(server.out)
            wait_for_lines(server, begun + 1)
            for caller in callers[::2]:
                caller.close()
            for caller, image in zip(callers[1::2], IMAGES[1::2], strict=True):
                head, body = read_all(caller).split(b"\r\n\r\n", 1)
                assert head.startswith(b"HTTP/1.1 200 ")
                assert (read_png(body) == mask_of(image) * 255).all()
                caller.close()
                survived += 1
        until(lambda: server.in_flight == 0)
        run = server.tiles_run
        left = server.metric("alnet_requests_total", modality="retina", status="499")
        server.terminate()
        assert server.exit_code() == 0
    assert survived == 800
    assert run == 200 + 1600  # whoever left was in a batch
    assert left >= 200  # while it ran; after it their answers were already on the way
    assert "Exception in ASGI application" not in "".join(server.err)


def wait_for_lines(server: ServerProcess, count: int) -> None:
    """Wait until the server has written so many lines to stdout, where its engines log what they begin."""
    until(lambda: len(server.out) >= count)

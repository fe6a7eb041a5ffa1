"""An engine that runs single tiles side by side, as those of CPUs do: bad luck and bad callers of a real server."""

import socket
import time
from collections.abc import Iterator

import pytest

from service.api.server import EXIT_DEVICE_LOST
from tests.doubles import draw, flat, mask_of, png, poisonous, read_png
from tests.end_to_end.fake_server import CUDA_FAULT
from tests.end_to_end.server_process import Caller, ServerProcess, busy, until, upload

pytestmark = pytest.mark.timed

SLOTS = 2
IMAGES = [draw(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def two_slots() -> Iterator[ServerProcess]:
    with ServerProcess("--slots", str(SLOTS)) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0
    assert "Exception in ASGI application" not in "".join(running.err)


def test_one_poisonous_upload_fails_alone(two_slots: ServerProcess) -> None:
    with busy(two_slots, png(IMAGES[0])):
        callers = [Caller(two_slots, png(image), Accept="image/png") for image in IMAGES]
        bad = Caller(two_slots, png(poisonous()))
        until(lambda: two_slots.waiting == 9)
    assert bad.answer().status_code == 500
    for image, caller in zip(IMAGES, callers, strict=True):
        assert (read_png(caller.answer().content) == mask_of(image) * 255).all()


def test_callers_who_hang_up_while_they_wait_are_not_run_and_not_counted(two_slots: ServerProcess) -> None:
    before = two_slots.tiles_run
    with busy(two_slots, png(IMAGES[0])):
        callers = [socket.create_connection((two_slots.host, two_slots.port)) for _ in range(16)]
        for caller in callers:
            caller.sendall(upload(png(IMAGES[0])))
        until(lambda: two_slots.waiting == 16)
        for caller in callers:
            caller.close()
        until(lambda: two_slots.in_flight == 1)
    assert Caller(two_slots, png(IMAGES[0])).answer().status_code == 200  # behind whatever is left of them
    assert two_slots.tiles_run - before == 2


def test_callers_who_hang_up_while_their_batch_is_dealt_out_are_not_counted_as_run() -> None:
    with ServerProcess("--slots", str(SLOTS), "--delay-s", "0.3") as server:
        server.wait_ready()
        with busy(server, png(IMAGES[0])):
            stay = [Caller(server, png(image)) for image in IMAGES[:2]]
            until(lambda: server.waiting == 2)
            leave = [socket.create_connection((server.host, server.port)) for _ in range(4)]
            for caller in leave:
                caller.sendall(upload(png(IMAGES[0])))
            until(lambda: server.waiting == 6)
        until(lambda: server.waiting == 0)  # all six are one batch, of which two run
        for caller in leave:
            caller.close()
        assert [caller.answer().status_code for caller in stay] == [200] * 2
        until(lambda: server.in_flight == 0)
        assert server.tiles_run == 1 + 2
        server.terminate()
        assert server.exit_code() == 0


def test_a_deadline_passes_while_the_slots_are_taken_and_the_late_one_never_is_run(two_slots: ServerProcess) -> None:
    before = two_slots.tiles_run
    with busy(two_slots, png(IMAGES[0])):
        late = Caller(two_slots, png(IMAGES[0]), **{"X-Request-Timeout-Ms": "100"}).answer()
    assert late.status_code == 504
    assert Caller(two_slots, png(IMAGES[0])).answer().status_code == 200  # behind whatever is left of them
    assert two_slots.tiles_run - before == 2


def test_when_memory_has_no_room_for_two_at_a_time_everyone_is_answered_and_it_is_learnt() -> None:
    with ServerProcess("--slots", str(SLOTS), "--room", "1", "--delay-s", "0.05") as server:
        server.wait_ready()
        failed = []
        for _ in range(2):
            with busy(server, png(IMAGES[0])):
                callers = [Caller(server, png(image)) for image in IMAGES]
                until(lambda: server.waiting == 8)
            assert [caller.answer().status_code for caller in callers] == [200] * 8
            failed.append(server.metric("alnet_failed_batches_total", modality="retina"))
        server.terminate()
        assert server.exit_code() == 0
    assert failed[0] >= 1
    assert failed[1] == failed[0]


def test_a_device_lost_in_a_slot_is_lost_for_all_and_the_process_ends_with_an_error() -> None:
    with ServerProcess("--slots", str(SLOTS)) as server:
        server.wait_ready()
        with busy(server, png(IMAGES[0])):
            callers = [Caller(server, png(flat(CUDA_FAULT))), *(Caller(server, png(image)) for image in IMAGES)]
            until(lambda: server.waiting == 9)
        lost_at = time.monotonic()
        statuses = {caller.answer().status_code for caller in callers}
        exit_code, exit_s = server.exit_code(), time.monotonic() - lost_at
    assert statuses <= {200, 503}
    assert callers[0].answer().json()["type"] == "urn:alnet:problem:device-lost"
    assert (exit_code, exit_s <= 5) == (EXIT_DEVICE_LOST, True)


def test_sigterm_answers_all_that_was_accepted() -> None:
    with ServerProcess("--slots", str(SLOTS)) as server:
        server.wait_ready()
        with server.held():
            callers = [Caller(server, png(IMAGES[number % 8])) for number in range(24)]
            until(lambda: server.in_flight == 24)
            server.terminate()
        assert [caller.answer().status_code for caller in callers] == [200] * 24
        assert server.exit_code() == 0

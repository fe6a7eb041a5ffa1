"""SIGTERM to a real server process: what was accepted is answered, and it exits with 0."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.api.server import LET_GO_S
from tests.doubles import draw, png
from tests.end_to_end.server_process import PATIENCE_S, Caller, ServerProcess, read_all, request_head, until, upload

pytestmark = pytest.mark.timed

IMAGE = png(draw())
DRAIN_S = 25.0
SEND_TIMEOUT_S = 3
HURRIED = ("--send-timeout-s", str(SEND_TIMEOUT_S))
"""A server that waits for slow callers as any does, but not for as long."""


def test_sigterm_answers_what_was_accepted_refuses_what_comes_and_exits_with_0() -> None:
    with ServerProcess(max_batch_size=4, drain_timeout_s=DRAIN_S) as server:
        server.wait_ready()
        with server.client() as client, server.connection() as half_sent:
            with server.held():
                callers = [Caller(server, IMAGE) for _ in range(24)]
                half_sent.sendall(upload(IMAGE)[:-100])
                until(lambda: server.in_flight == 25)
                server.terminate()
                signalled_at = time.monotonic()
                until(lambda: client.get("/readyz").status_code == 503)
                alive = client.get("/livez")
                refused = client.post("/segment/retina", content=IMAGE)
                server.terminate()  # a second time changes nothing
                half_sent.sendall(upload(IMAGE)[-100:])
            late = read_all(half_sent)
        answers = [caller.answer() for caller in callers]
        assert [answer.status_code for answer in answers] == [200] * 24
        assert late.startswith(b"HTTP/1.1 200 ")
        assert alive.status_code == 200
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:alnet:problem:shutting-down"
        assert int(refused.headers["retry-after"]) >= 1
        assert {answer.headers["connection"] for answer in (alive, refused, *answers)} == {"close"}
        assert server.exit_code() == 0
        assert time.monotonic() - signalled_at < DRAIN_S
    assert "Traceback" not in "".join(server.err)
    lines = [json.loads(line) for line in server.out]
    assert sum(line["route"] == "/segment/{modality}" and line["status"] == 200 for line in lines) == 25


def test_who_takes_a_long_answer_slowly_has_the_time_to_drain_for_it() -> None:
    with ServerProcess(*HURRIED, "--tiled", "cell", drain_timeout_s=DRAIN_S) as server, server.client() as client:
        with answer_under_way(server) as slow:
            begun = slow.recv(1000)
            server.terminate()
            time.sleep(SEND_TIMEOUT_S + 1)
            assert client.get("/readyz").status_code == 503
            head, body = (begun + read_all(slow)).split(b"\r\n\r\n", 1)
        ended_at = time.monotonic()
        assert server.exit_code() == 0
        assert time.monotonic() - ended_at < SEND_TIMEOUT_S
    assert f"content-length: {len(body)}\r\n".encode() in head.lower()
    assert json.loads(body)["mask"]["data"]


def test_who_does_not_take_an_answer_has_no_longer_than_that() -> None:
    with ServerProcess(*HURRIED, "--tiled", "cell", drain_timeout_s=1) as server, answer_under_way(server) as stalled:
        assert stalled.recv(1000)
        server.terminate()
        terminated_at = time.monotonic()
        assert server.exit_code() == 0
        assert time.monotonic() - terminated_at < 1 + SEND_TIMEOUT_S + LET_GO_S


@contextmanager
def answer_under_way(server: ServerProcess) -> Iterator[socket.socket]:
    """Have megabytes of answer sent, more than the sockets' buffers hold, to a connection that nobody reads from."""
    image = png(draw(0, 2048, 2048))
    server.wait_ready()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(PATIENCE_S)
        connection.connect((server.host, server.port))
        connection.sendall(request_head("/segment/cell?probability=true", f"Content-Length: {len(image)}") + image)
        yield connection


def test_readyz_tells_of_sigterm_within_100_ms_and_livez_says_alive() -> None:
    assert any(_readyz_tells_of_sigterm_in_time() for _ in range(3))  # a busy machine may delay anything once


def _readyz_tells_of_sigterm_in_time() -> bool:
    with ServerProcess() as server, server.client() as client:
        server.wait_ready()
        with server.held():
            last = Caller(server, IMAGE)
            until(lambda: server.in_flight == 1)
            assert client.get("/readyz").status_code == 200  # which opens the connection, too
            server.terminate()
            signalled_at = time.monotonic()
            while client.get("/readyz").status_code == 200:
                pass
            seconds = time.monotonic() - signalled_at
            assert client.get("/livez").status_code == 200
        assert last.answer().status_code == 200
        assert server.exit_code() == 0
    return seconds <= 0.1


def test_a_balancer_has_its_time_to_notice_even_if_nothing_is_in_flight() -> None:
    with ServerProcess(lame_duck_s=1.0) as server, server.client() as client:
        server.wait_ready()
        server.terminate()
        until(lambda: client.get("/readyz").status_code == 503)
        server.terminate()  # a second time does not shorten it
        assert client.post("/segment/retina", content=IMAGE).status_code == 503
        time.sleep(0.5)
        assert client.get("/readyz").status_code == 503
        assert server.exit_code() == 0


def test_that_time_is_no_longer_than_the_time_to_drain() -> None:
    with ServerProcess(lame_duck_s=600, drain_timeout_s=0.1) as server:
        server.wait_ready()
        server.terminate()
        assert server.exit_code() == 0


def test_sigterm_during_warm_up_exits_with_0() -> None:
    with ServerProcess("--held", "retina", "cell") as server:
        with server.client() as client:
            assert client.get("/readyz").status_code == 503
        server.terminate()
        server.release()
        assert server.exit_code() == 0
    assert "Traceback" not in "".join(server.err)


def test_sigterm_is_heeded_where_no_thread_can_be_started_any_more() -> None:
    with ServerProcess("--threadless", "--modalities", "retina") as server:
        server.wait_ready()
        server.terminate()
        assert server.exit_code() == 0
    assert "no thread can be started" in "".join(server.err)


def test_a_batch_or_a_warm_up_that_never_ends_does_not_keep_the_process_from_ending() -> None:
    hurried = (*HURRIED, "--let-go-s", "1")
    held = ("--held", "retina", "cell")
    with ServerProcess(*hurried, drain_timeout_s=0.5) as server, ServerProcess(*hurried, *held) as warming_up:
        server.wait_ready()
        with server.held():
            caller = Caller(server, IMAGE)
            until(lambda: server.in_flight == 1)
            server.terminate()
            warming_up.terminate()
            assert caller.answer().status_code == 503
            assert (server.exit_code(), warming_up.exit_code()) == (0, 0)
    for ended in (server, warming_up):
        assert "ends without it" in "".join(ended.err)


def test_an_upload_that_stalls_ends_with_the_time_to_drain_and_idle_connections_are_closed() -> None:
    with ServerProcess(drain_timeout_s=0.5) as server, server.connection() as stalled, server.connection() as idle:
        server.wait_ready()
        stalled.sendall(upload(IMAGE)[:-100])
        until(lambda: server.in_flight == 1)
        server.terminate()
        answer = read_all(stalled)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"shutting-down" in answer
        assert read_all(idle) == b""
        assert server.exit_code() == 0
    assert "Traceback" not in "".join(server.err)

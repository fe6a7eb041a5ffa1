"""Callers who misbehave, over real sockets to a real server process."""

import http.client
import json
import socket

import httpx
import pytest

from tests.doubles import draw, png
from tests.end_to_end.server_process import Caller, ServerProcess, read_all, request_head, until, upload

pytestmark = pytest.mark.timed

IMAGE = png(draw())


def answered(server: ServerProcess, status: int) -> float:
    return server.metric("alnet_requests_total", modality="retina", status=str(status))


def occupy(server: ServerProcess) -> Caller:
    """Give the held engine of a server one upload to be busy with."""
    before = server.batches_held
    caller = Caller(server, IMAGE)
    until(lambda: server.batches_held > before)
    return caller


def problem(raw: bytes) -> dict[str, object]:
    """Return the problem document in a raw answer."""
    head, body = raw.split(b"\r\n\r\n", 1)
    assert b"application/problem+json" in head
    document: dict[str, object] = json.loads(body)
    return document


def test_callers_who_hang_up_while_they_wait_are_not_run(server: ServerProcess) -> None:
    before, left = server.tiles_run, answered(server, 499)
    with server.held():
        first = occupy(server)
        callers = [socket.create_connection((server.host, server.port)) for _ in range(16)]
        for caller in callers:
            caller.sendall(upload(IMAGE))
        until(lambda: server.waiting == 16)
        for caller in callers:
            caller.close()
        until(lambda: server.in_flight == 1)
    assert first.answer().status_code == 200
    assert server.tiles_run - before == 1
    assert answered(server, 499) - left == 16


def test_a_deadline_passes_while_others_are_run_and_the_late_one_never_is(server: ServerProcess) -> None:
    before = server.tiles_run
    with server.held():
        first = occupy(server)
        late = Caller(server, IMAGE, **{"X-Request-Timeout-Ms": "100"}).answer()
    assert late.status_code == 504
    assert late.json()["type"] == "urn:alnet:problem:deadline-exceeded"
    assert first.answer().status_code == 200
    assert server.tiles_run - before == 1


def test_a_full_queue_refuses_and_says_when_to_come_back(server: ServerProcess) -> None:
    before = answered(server, 429)
    with server.held():
        first = occupy(server)
        callers = [Caller(server, IMAGE) for _ in range(30)]
        until(lambda: server.in_flight == 21 and answered(server, 429) - before == 10)
        with server.connection() as half_sent:
            half_sent.sendall(upload(IMAGE)[:-100])
            assert half_sent.recv(65536).startswith(b"HTTP/1.1 429 ")  # its body need not travel for that
    answers = [caller.answer() for caller in (first, *callers)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 10
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert sum(answer.status_code == 200 for answer in answers) == 21


def test_an_error_leaves_the_connection_good_for_the_next_request(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    statuses = []
    for path, body in [
        ("/segment/retina", b"no image"),
        ("/segment/liver", IMAGE),
        ("/segment/retina?threshold=x", IMAGE),
        ("/segment/retina", b"x" * 2**21),
        ("/segment/retina", IMAGE),
    ]:
        connection.request("POST", path, body)
        socket_in_use = connection.sock
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        assert connection.sock is socket_in_use
    connection.close()
    assert statuses == [415, 404, 400, 413, 200]


def test_a_body_without_announced_length_is_cut_off_at_the_limit(server: ServerProcess) -> None:
    answer = httpx.post(f"{server.url}/segment/retina", content=(b"x" * 2**16 for _ in range(40)), timeout=60)
    assert answer.status_code == 413


def test_a_body_that_stalls_is_too_slow(server: ServerProcess) -> None:
    with server.connection() as connection:
        connection.sendall(upload(IMAGE)[:-100])
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem(answer)["type"] == "urn:alnet:problem:upload-too-slow"


def test_a_caller_who_leaves_in_the_middle_of_his_body_is_forgotten(server: ServerProcess) -> None:
    left = answered(server, 499)
    with server.connection() as connection:
        connection.sendall(upload(IMAGE)[:-100])
        until(lambda: server.in_flight == 1)
    until(lambda: server.in_flight == 0 and answered(server, 499) - left == 1)


def test_a_body_that_nobody_wants_is_not_asked_for(server: ServerProcess) -> None:
    with server.connection() as connection:
        connection.sendall(request_head("/segment/liver", "Content-Length: 1000", "Expect: 100-continue"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nconnection: close\r\n" in answer  # what came next might be the body, or another request


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /segment/retina HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /segment/retina HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"SEGMENT retina\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_too(server: ServerProcess, garbage: bytes) -> None:
    with server.connection() as connection:
        connection.sendall(garbage)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert problem(answer)["status"] == 400
    until(lambda: f'"request_id": "{problem(answer)["request_id"]}"' in "".join(server.out))


def test_chunks_that_are_none_end_only_their_own_request(server: ServerProcess) -> None:
    with server.connection() as connection:
        connection.sendall(request_head("/segment/retina", "Transfer-Encoding: chunked") + b"5\r\nabcde\r\nzz\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    until(lambda: server.in_flight == 0)
    assert Caller(server, IMAGE).answer().status_code == 200

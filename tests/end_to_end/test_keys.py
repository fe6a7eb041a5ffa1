"""API keys and bounded heads, over real sockets to a real server process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.key_file import add_key, remove_key
from service.api.protocol import MAX_HEAD_BYTES
from tests.doubles import draw, png
from tests.end_to_end.server_process import ROOT, ServerProcess, read_all, request_head, until

IMAGE = png(draw())
BODY_BYTES = 30 * 2**20
VIEWER = "https://viewer.example.org"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "api-keys"


@pytest.fixture(scope="module")
def key(key_file: Path) -> str:
    return add_key(key_file, "ward-3")


@pytest.fixture(scope="module")
def guarded(key_file: Path, key: str) -> Iterator[ServerProcess]:
    with ServerProcess(api_keys=key_file, cors_origins=VIEWER) as running:
        running.wait_ready()
        yield running


def status(server: ServerProcess, key: str) -> int:
    answer = httpx.post(f"{server.url}/segment/retina", content=IMAGE, headers={"X-API-Key": key}, timeout=60)
    return answer.status_code


def test_only_known_keys_are_served_and_refusals_are_counted(guarded: ServerProcess, key: str) -> None:
    assert [status(guarded, sent) for sent in (key, key + "x", "")] == [200, 401, 401]
    assert guarded.metric("alnet_requests_total", modality="retina", status="401") == 2
    assert guarded.metric("alnet_refused_total", reason="key-needed") == 2


def test_a_body_without_a_key_is_not_asked_for(guarded: ServerProcess) -> None:
    with guarded.connection() as connection:
        connection.sendall(
            request_head("/segment/retina", f"Content-Length: {BODY_BYTES}", "Expect: 100-continue", "X-API-Key: x")
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_body_that_comes_without_a_key_all_the_same_is_not_kept(guarded: ServerProcess) -> None:
    before = guarded.metric("process_resident_memory_bytes")
    for _ in range(4):
        with guarded.connection() as connection:
            connection.sendall(request_head("/segment/retina", f"Content-Length: {BODY_BYTES}", "X-API-Key: x"))
            connection.sendall(bytes(BODY_BYTES - 1))  # its end never comes: what is kept of it is kept now
            assert guarded.metric("process_resident_memory_bytes") - before < BODY_BYTES / 2


def test_keys_come_go_and_survive_a_damaged_file_without_a_restart(
    guarded: ServerProcess, key_file: Path, key: str
) -> None:
    other = add_key(key_file, "ward-4")
    until(lambda: status(guarded, other) == 200)
    remove_key(key_file, "ward-4")
    until(lambda: status(guarded, other) == 401)
    sound = key_file.read_text()
    key_file.write_text("damage\n")
    until(lambda: "API keys stay as they were" in "".join(guarded.err) or status(guarded, key) != 200)
    assert [status(guarded, key), status(guarded, other)] == [200, 401]
    key_file.write_text(sound)


def test_a_key_file_that_cannot_be_used_stops_the_start_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "api-keys"
    file.write_text("damage\n")
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"ALNET_API_KEYS": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("alnet: ")
    assert str(file) in done.stderr
    assert done.stderr.count("\n") == 1


HEADS = {
    "one header": request_head("/livez", "X-More: " + "x" * MAX_HEAD_BYTES),
    "many headers": request_head("/livez", *["X-More: x"] * (MAX_HEAD_BYTES // 7)),
    "path": request_head("/" + "x" * MAX_HEAD_BYTES),
    "query": request_head("/livez?" + "x" * MAX_HEAD_BYTES),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_that_is_too_large_is_refused(guarded: ServerProcess, head: bytes) -> None:
    with guarded.connection() as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"application/problem+json" in answer


def test_a_page_of_another_origin_sees_that_a_head_is_too_large(guarded: ServerProcess) -> None:
    with guarded.connection() as connection:
        connection.sendall(request_head("/livez", f"Origin: {VIEWER}", "X-More: " + "x" * MAX_HEAD_BYTES))
        answer = read_all(connection)
    assert f"access-control-allow-origin: {VIEWER}\r\n".encode() in answer


ENDLESS = {
    "header": b"GET /livez HTTP/1.1\r\nX-More: ",
    "header name": b"GET /livez HTTP/1.1\r\n",
    "path": b"GET /",
    "trailer": request_head("/models/retina", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\nX-More: ",
    "chunk extension": request_head("/models/retina", "Transfer-Encoding: chunked") + b"1;",
}


def send_until_cut_off(connection: socket.socket, piece: bytes) -> int:
    """Send until the other side closes the connection; return the bytes sent."""
    sent = 0
    while sent < 100 * MAX_HEAD_BYTES:
        try:
            connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return sent
        sent += len(piece)
    raise AssertionError("it took all")


@pytest.mark.parametrize("begin", ENDLESS.values(), ids=ENDLESS)
def test_a_head_or_trailer_that_never_ends_is_cut_off(guarded: ServerProcess, begin: bytes) -> None:
    with guarded.connection() as connection:
        connection.sendall(begin)
        send_until_cut_off(connection, b"x" * 4096)
    assert guarded.get("/livez").status_code == 200


def test_a_head_of_half_the_limit_is_served_also_as_the_second_of_a_connection(guarded: ServerProcess) -> None:
    with httpx.Client(base_url=guarded.url, headers={"X-More": "x" * (MAX_HEAD_BYTES // 2)}) as client:
        assert [client.get("/livez").status_code for _ in range(5)] == [200] * 5

"""Callers who offer another protocol, as Java's client does with every request: each is answered in HTTP/1.1."""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.doubles import draw, png
from tests.end_to_end.server_process import ServerProcess, read_all, request_head, upload

pytestmark = pytest.mark.timed

IMAGE = png(draw())
OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
}
H2C = OFFERS["h2c"]
CHUNKED = "Transfer-Encoding: chunked"


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def chunked(content: bytes, size: int = 1000) -> bytes:
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


LAST = get("/readyz", "Connection: close")


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[socket.socket]:
    with server.connection() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", answers)]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_upload_is_segmented_and_the_connection_is_good_for_the_next_request(
    connection: socket.socket, offer: tuple[str, ...]
) -> None:
    connection.sendall(upload(IMAGE, *offer) + upload(IMAGE, *offer) + LAST)
    answers = read_all(connection)
    assert statuses(answers) == [200, 200, 200]
    assert answers.count(b'"area_px"') == 2


@pytest.mark.parametrize("head_and", [0, 100], ids=["the head", "the head and a piece of the body"])
def test_a_body_may_come_after(connection: socket.socket, server: ServerProcess, head_and: int) -> None:
    whole = upload(IMAGE, *H2C)
    at = len(whole) - len(IMAGE) + head_and
    connection.sendall(whole[:at])
    server.wait_ready()  # meanwhile the server has taken in what was sent
    connection.sendall(whole[at:] + LAST)
    assert statuses(read_all(connection)) == [200, 200]


def test_a_head_may_come_byte_by_byte(connection: socket.socket) -> None:
    for byte in upload(b"no image", *H2C) + LAST:
        connection.sendall(bytes([byte]))
    assert statuses(read_all(connection)) == [415, 200]


def test_a_body_may_come_in_chunks(connection: socket.socket) -> None:
    connection.sendall(request_head("/segment/retina", *H2C, CHUNKED) + chunked(IMAGE) + LAST)
    assert statuses(read_all(connection)) == [200, 200]


def test_requests_that_follow_one_without_a_body_are_answered(connection: socket.socket) -> None:
    connection.sendall(get("/livez", *H2C) * 50 + request_head("/livez", *H2C, "Content-Length: 0") + LAST)
    assert statuses(read_all(connection)) == [200] * 50 + [405, 200]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["of a length", "in chunks"])
def test_a_body_that_looks_like_a_request_is_none(
    connection: socket.socket, server: ServerProcess, is_chunked: bool
) -> None:
    body = get("/models")
    framing = CHUNKED if is_chunked else f"Content-Length: {len(body)}"
    connection.sendall(request_head("/segment/retina", *H2C, framing))
    server.wait_ready()
    connection.sendall((chunked(body) if is_chunked else body) + LAST)
    assert statuses(read_all(connection)) == [415, 200]


def test_a_body_that_nobody_may_send_is_refused_as_ever(connection: socket.socket) -> None:
    connection.sendall(request_head("/segment/retina", *H2C, "Content-Length: 2097152", "Connection: close"))
    assert statuses(read_all(connection)) == [413]


def test_a_head_that_is_too_long_is_refused_as_ever(connection: socket.socket) -> None:
    connection.sendall(get("/livez", *H2C, "X-A: " + "y" * 70_000))
    assert statuses(read_all(connection)) == [431]


@pytest.mark.parametrize("target", ["example.org:443", "/segment/retina"])
def test_a_tunnel_is_refused(connection: socket.socket, target: str) -> None:
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode() + get("/livez"))
    assert statuses(read_all(connection)) == [400]


def test_nothing_of_it_is_worth_a_warning(server: ServerProcess, connection: socket.socket) -> None:
    connection.sendall(get("/livez", *OFFERS["websocket"]) + LAST)
    assert statuses(read_all(connection)) == [200, 200]
    assert "WebSocket" not in "".join(server.err)

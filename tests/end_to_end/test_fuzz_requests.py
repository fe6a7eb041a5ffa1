"""Requests that no honest client sends, over raw sockets: each gets what it deserves, and the server goes on."""

import re
import socket
import threading

import pytest

from tests.doubles import draw, png
from tests.end_to_end.hostile_requests import REQUESTS, Hostile
from tests.end_to_end.server_process import Caller, ServerProcess, read_all, until

pytestmark = pytest.mark.timed

IMAGE = png(draw())


def send(server: ServerProcess, hostile: Hostile) -> bytes:
    """Send a request; return all that comes back. The server may close before it has read everything."""
    with server.connection() as connection:
        sender = threading.Thread(target=_send, args=(connection, hostile))
        sender.start()
        try:
            return read_all(connection)
        finally:
            sender.join()


def _send(connection: socket.socket, hostile: Hostile) -> None:
    try:
        connection.sendall(hostile.request)
        if not hostile.statuses:
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # refused already


@pytest.mark.parametrize("name", REQUESTS)
def test_each_gets_the_answers_it_deserves(name: str, server: ServerProcess) -> None:
    hostile = REQUESTS[name]
    received = send(server, hostile)
    assert tuple(int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", received)) == hostile.statuses
    for answer in received.split(b"HTTP/1.1 ")[1:]:
        assert answer.startswith(b"200") or b"content-type: application/problem+json" in answer.lower()
    until(lambda: server.in_flight == 0)
    assert Caller(server, IMAGE).answer().status_code == 200

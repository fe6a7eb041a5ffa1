"""Callers over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable

from peers.caller import Caller, Reply, call, parse, request

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(handle: Handle, *, patience_s: float = 5) -> Reply:
    """Return what one caller gets from a server that handles connections so."""

    async def run() -> Reply:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/segment"
            return await call(url, request(url, b"body"), patience_s=patience_s)

    return asyncio.run(run())


def test_a_request_announces_its_body_unless_told_otherwise() -> None:
    assert b"\r\nContent-Length: 4\r\n" in request("http://127.0.0.1:80/segment", b"body")
    lying = request("http://127.0.0.1:80/segment", b"body", Content_Length="-1")
    assert b"\r\nContent-Length: -1\r\n" in lying
    assert b"Content-Length: 4" not in lying


def test_an_answer_of_announced_length_is_taken_without_waiting_for_the_connections_end() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"body")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()  # until the caller hangs up
        writer.close()

    reply = against(handle)
    assert reply.status == 429
    assert reply.headers["retry-after"] == "3"


def test_a_connection_that_ends_without_an_answer_is_a_reply_without_status() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"body")
        writer.close()

    assert against(handle).status is None


def test_patience_ends_and_the_caller_hangs_up() -> None:
    saw_end = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"body")
        saw_end.append(await reader.read() == b"")
        writer.close()

    assert against(handle, patience_s=0.05).status is None
    assert saw_end in ([True], [])  # the loop may end before the server sees it


def test_what_is_no_http_has_no_status() -> None:
    assert parse(b"hello\r\n\r\n", 1.0) == Reply(None, 1.0)
    assert parse(b"HTTP/1.1 200 OK\r\nA-B: c\r\n\r\nrest", 1.0) == Reply(200, 1.0, {"a-b": "c"})


def test_nobody_listening_is_a_reply_without_status() -> None:
    assert asyncio.run(call("http://127.0.0.1:1/segment", b"")).status is None


def test_a_caller_can_stop_sending_and_still_hear_the_answer() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nX-Bytes: %d\r\n\r\n" % len(received))
        await writer.drain()
        writer.close()

    async def run() -> Reply:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            caller = await Caller.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            await caller.send(b"half")
            caller.send_no_more()
            return await caller.reply(0.0, 5)

    assert asyncio.run(run()).headers["x-bytes"] == "4"

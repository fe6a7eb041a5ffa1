"""Callers who speak HTTP over sockets of their own, so that they can misbehave as no HTTP library would."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PATIENCE_S = 40.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What one caller got, `seconds` after it began to send. `status` None: the connection ended without an answer."""

    status: int | None
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)


def request(url: str, body: bytes, **headers: str) -> bytes:
    """Return a POST request for `body`; `headers`, with _ for -, replace those of the same name or add to them."""
    parts = urlsplit(url)
    fields = {
        "Host": parts.netloc,
        "Content-Type": "image/png",
        "Accept": "image/png",
        "Connection": "close",
        "Content-Length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, url: str) -> "Caller":
        """Open the connection. Raises OSError if nobody listens."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(content)
            await self._writer.drain()

    def send_no_more(self) -> None:
        """Close our direction, so that the server sees the end of what was sent."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def reply(self, began: float, patience_s: float = PATIENCE_S) -> Reply:
        """Wait for the answer until the connection ends or patience does; hang up."""
        received = b""
        try:
            async with asyncio.timeout(patience_s):
                while not _is_whole(received) and (chunk := await self._reader.read(65536)):
                    received += chunk
        except (ConnectionError, TimeoutError):
            pass
        seconds = time.monotonic() - began
        await self.hang_up()
        return parse(received, seconds)

    async def hang_up(self) -> None:
        """Close the connection, whatever is on its way."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def call(url: str, content: bytes, *, patience_s: float = PATIENCE_S) -> Reply:
    """Send a whole request over a connection of its own and wait for the answer; no connection is an empty reply."""
    began = time.monotonic()
    try:
        caller = await Caller.connect(url)
    except OSError:
        return Reply(None, time.monotonic() - began)
    await caller.send(content)
    return await caller.reply(began, patience_s)


def parse(received: bytes, seconds: float) -> Reply:
    """Return the reply that begins with these bytes; one without a status if they are no HTTP answer."""
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = head[0].split(" ")
    if not head[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdecimal():
        return Reply(None, seconds)
    fields = (line.partition(":") for line in head[1:])
    return Reply(int(words[1]), seconds, {name.strip().lower(): value.strip() for name, _, value in fields})


def _is_whole(received: bytes) -> bool:
    """Whether an answer of announced length is there to its end."""
    head, found, body = received.partition(b"\r\n\r\n")
    length = parse(head + b"\r\n\r\n", 0).headers.get("content-length", "") if found else ""
    return length.isdecimal() and len(body) >= int(length)

"""Callers of every kind, good, bad and vanishing: each asks, pauses a little, and asks again until it is stopped."""

import asyncio
import io
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from PIL import Image

from tests.doubles import Pixels, draw, mask_of, png, poisonous
from tests.end_to_end.server_process import PATIENCE_S, ServerProcess, request_head, upload

MAX_UPLOAD_MIB = 8
"""The server's limit, as these callers expect it."""

PAUSE_S = 0.1
"""Mean; the real ones are random, so that no two callers stay in step."""

SMALL = draw(1, 100, 120)
LARGE = draw(2, 1500, 1500)


def tiff(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request over HTTP as it should be, and the status that it must be answered with."""

    path: str = "/segment/retina"
    method: str = "POST"
    content: bytes | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


GOOD = (
    Ask(content=png(SMALL)),
    Ask(content=png(SMALL), headers={"Accept": "image/png"}),
    Ask(content=tiff(SMALL), path="/segment/cell"),
    Ask(content=png(SMALL), path="/segment/cell?threshold=0.3&probability=true"),
    Ask(files={"image": ("i", png(SMALL)), "reference": ("r", png(mask_of(SMALL)))}),
)
LARGE_ONES = (
    Ask(content=tiff(LARGE), path="/segment/cell?probability=true"),
    Ask(content=png(LARGE), headers={"Accept": "image/png"}),
)
BAD = (
    Ask(content=b"no image", status=415),
    Ask(content=b"", status=415),
    Ask(content=png(SMALL)[:-2000], status=422),
    Ask(content=b"x" * (MAX_UPLOAD_MIB + 1) * 2**20, status=413),
    Ask(content=b"--a\r\nbroken", headers={"Content-Type": "multipart/form-data; boundary=a"}, status=400),
    Ask(files={"picture": ("i", png(SMALL))}, status=400),
    Ask(files={"image": ("i", png(SMALL)), "reference": ("r", png(mask_of(LARGE)))}, status=422),
    Ask(content=png(SMALL), path="/segment/retina?threshold=much", status=400),
    Ask(content=png(SMALL), path="/segment/liver", status=404),
    Ask(content=png(SMALL), path="/segments", status=404),
    Ask(content=png(SMALL), method="PUT", status=405),
    Ask(content=png(SMALL), headers={"Accept": "text/csv"}, status=406),
    Ask(content=png(SMALL), headers={"X-Request-Timeout-Ms": "0.01"}, status=504),
    Ask(content=png(poisonous()), status=500),
)
WATCHING = tuple(Ask(method="GET", path=path) for path in ("/metrics", "/readyz", "/models", "/openapi.json", "/"))


class Tally:
    """Counts what came of the asking; `faults` says what should not have."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()

    def note(self, kind: str, outcome: int | str, expected: int | str) -> None:
        self.outcomes[kind, str(outcome)] += 1
        if outcome != expected:
            self.faults[f"{kind}: {outcome} instead of {expected}"] += 1


class Callers:
    """All kinds of callers of one server, some of each."""

    def __init__(self, server: ServerProcess, tally: Tally, seed: int) -> None:
        self._server, self._tally, self._random = server, tally, random.Random(seed)

    async def call_for(self, seconds: float) -> None:
        """Let all of them call; return once each has had its last answer and every connection is closed."""
        ends_at = asyncio.get_running_loop().time() + seconds
        async with httpx.AsyncClient(base_url=self._server.url, timeout=PATIENCE_S) as client:

            def asking(kind: str, asks: Sequence[Ask]) -> Callable[[], Awaitable[None]]:
                in_turn = itertools.cycle(asks)
                return lambda: self._ask(client, kind, next(in_turn))

            good = [asking("good", GOOD) for _ in range(4)]
            others = [asking("large", LARGE_ONES), asking("bad", BAD), asking("bad", BAD), asking("watching", WATCHING)]
            rude = [self._vanish, self._vanish, self._vanish_half_way, self._turn_away, self._dawdle, self._stall]
            async with asyncio.TaskGroup() as group:
                for call in (*good, *others, *rude, self._talk_nonsense):
                    group.create_task(self._repeat(call, ends_at))

    async def _repeat(self, call: Callable[[], Awaitable[None]], ends_at: float) -> None:
        while asyncio.get_running_loop().time() < ends_at:
            try:
                await call()
            except (OSError, httpx.HTTPError) as error:
                self._tally.faults[f"a connection broke: {type(error).__name__}"] += 1
            await asyncio.sleep(self._random.expovariate(1 / PAUSE_S))

    async def _ask(self, client: httpx.AsyncClient, kind: str, ask: Ask) -> None:
        answer = await client.request(
            ask.method, ask.path, content=ask.content, files=ask.files, headers=dict(ask.headers)
        )
        self._tally.note(f"{kind} ({ask.status})", answer.status_code, ask.status)

    async def _vanish(self) -> None:
        """Hang up at some time between the queue and the answer."""
        _, writer = await self._connect(upload(png(SMALL)))
        await asyncio.sleep(self._random.uniform(0, 0.1))
        writer.transport.abort()
        self._tally.note("vanishing", "left", "left")

    async def _vanish_half_way(self) -> None:
        """Hang up in the middle of the body."""
        _, writer = await self._connect(upload(png(SMALL))[:-1000])
        await asyncio.sleep(self._random.uniform(0, 0.1))
        writer.close()
        self._tally.note("vanishing half way", "left", "left")

    async def _turn_away(self) -> None:
        """Hang up in the middle of a long answer."""
        path = "/segment/cell?probability=true"
        content = png(LARGE[:700])
        reader, writer = await self._connect(request_head(path, f"Content-Length: {len(content)}") + content)
        await reader.read(1000)
        writer.transport.abort()
        self._tally.note("turning away", "left", "left")

    async def _dawdle(self) -> None:
        """Send a body slowly, but within the time that it has."""
        whole = upload(png(SMALL), "Connection: close")
        reader, writer = await self._connect(b"")
        for start in range(0, len(whole), 4096):
            writer.write(whole[start : start + 4096])
            await asyncio.sleep(0.1)
        self._tally.note("dawdling", await _status(reader), 200)
        writer.close()

    async def _stall(self) -> None:
        """Send half a body and wait."""
        reader, writer = await self._connect(upload(png(SMALL))[:-1000])
        self._tally.note("stalling", await _status(reader), 408)
        writer.close()

    async def _talk_nonsense(self) -> None:
        """Send what is no HTTP."""
        reader, writer = await self._connect(b"\x16\x03\x01 nonsense\r\n\r\n")
        self._tally.note("talking nonsense", await _status(reader), 400)
        writer.close()

    async def _connect(self, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        writer.write(first)
        return reader, writer


async def _status(reader: asyncio.StreamReader) -> int | str:
    """Read an answer to the end of its connection, and return its status."""
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    return int(answer.split()[1]) if answer else "no answer"

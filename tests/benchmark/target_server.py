"""A server to be measured whose every answer the test decides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from service.benchmark.uploads import Body

BODIES = [Body(b"first", "image/png"), Body(b"second", "image/jpeg")]


@dataclass
class Target:
    """Answers the nth request (counted from 0) with `statuses[n]`, and with 200 once there are no more of them.

    Each takes `delay_s`; with `places` only so many are worked on at a time. `seen` has (media type, body) of each,
    `accepted` and `authorized` the headers `Accept` and `Authorization`.
    """

    statuses: Sequence[int] = ()
    delay_s: float = 0.0
    places: int = 1000
    url: str = ""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    accepted: list[str | None] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.places)

    async def answer(self, request: web.Request) -> web.Response:
        number = len(self.seen)
        self.seen.append((request.content_type, await request.read()))
        self.accepted.append(request.headers.get("Accept"))
        self.authorized.append(request.headers.get("Authorization"))
        async with self._free:
            await asyncio.sleep(self.delay_s)
        status = self.statuses[number] if number < len(self.statuses) else 200
        return web.Response(status=status, body=b"0123456789" if status == 200 else b"sorry")


@asynccontextmanager
async def listening(target: Target) -> AsyncIterator[Target]:
    """Serve the target on a free port within the block."""
    app = web.Application()
    app.router.add_post("/segment/cell", target.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    target.url = f"http://{host}:{port}/segment/cell"
    try:
        yield target
    finally:
        await runner.cleanup()

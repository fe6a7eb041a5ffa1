"""Sends uploads to a URL one after another, over as many connections as it takes, and notes what becomes of each."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from service.benchmark.samples import Outcome, Sample
from service.benchmark.uploads import Body
from service.errors import BadParameter

OUTCOMES: dict[int, Outcome] = {200: "answered", 429: "refused", 503: "refused"}


class Sender:
    """Sends the bodies in turn, and notes what becomes of each."""

    def __init__(self, session: aiohttp.ClientSession, url: str, bodies: Sequence[Body]) -> None:
        self._session, self._url, self._bodies = session, url, itertools.cycle(bodies)
        self._started = time.perf_counter()  # uvloop's own clock counts in whole milliseconds
        self.samples: list[Sample] = []
        self.due: list[float] = []
        self.is_over = False

    @property
    def now_s(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._started

    async def check(self) -> None:
        """Raise BadParameter unless an upload is answered with 200."""
        try:
            async with self._post() as answer:
                content = await answer.read()
                fault = "" if answer.status == 200 else f"{answer.status} {content[:300].decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError) as error:
            fault = str(error) or type(error).__name__
        if fault:
            raise BadParameter(f"{self._url} does not answer an upload with 200: {fault}")

    async def send(self, due_s: float) -> Outcome:
        """Send the next body, which was due at `due_s`, and wait for its answer."""
        self.due.append(due_s)
        outcome: Outcome = "failed"
        received = 0
        try:
            async with self._post() as answer:
                received = len(await answer.read())
                outcome = OUTCOMES.get(answer.status, "failed")
        except (aiohttp.ClientError, TimeoutError):
            pass
        self.samples.append(Sample(due_s, self.now_s, outcome, received))
        return outcome

    def _post(self) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        body = next(self._bodies)
        return self._session.post(self._url, data=body.content, headers={"Content-Type": body.media_type})


@asynccontextmanager
async def connect(
    url: str, bodies: Sequence[Body], *, timeout_s: float, headers: Mapping[str, str]
) -> AsyncIterator[Sender]:
    """Open as many connections as the load needs, and check that there is a server behind them."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        sender = Sender(session, url, bodies)
        await sender.check()
        yield sender

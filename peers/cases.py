"""The misbehaviour cases: what callers do to a server, over real sockets, and what is seen of it.

All are for a server with a FakeEngine (0.2 s a batch of at most 8), of which nothing else is asked at the time.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.caller import Caller, Reply, call, request
from peers.fake_engine import BATCH_S, POISON, SLOW, SLOW_S, Colour, times_run
from peers.options import BATCH_SIZE
from peers.pictures import GOOD, Malformed, flat, malformed
from peers.server_process import Ending, ServerProcess

POISON_ROUNDS = 3
HANG_UPS = 16
BURST = 400
IN_FLIGHT = 24
DEADLINE_S = 0.3
GRACE_S = 40.0

VANISHED: Colour = (20, 220, 40)
LATE: Colour = (30, 180, 50)

UNDER_WAY_S = 0.1
"""What a server gets to begin what it was just sent, before the next is sent."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """How many mates of a poisonous upload were answered with 200, of how many; what the poisonous ones got."""

    mates: int
    answered: int
    poison: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Burst:
    """What became of a burst: how many got a mask, the refusals, and any other replies."""

    accepted: int
    refused: tuple[Reply, ...]
    others: tuple[Reply, ...]

    @property
    def slowest_refusal_ms(self) -> float | None:
        """None if nobody was refused."""
        return max((1000 * reply.seconds for reply in self.refused), default=None)

    @property
    def say_when_to_retry(self) -> int:
        """How many refusals have a Retry-After."""
        return sum("retry-after" in reply.headers for reply in self.refused)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The reply to an upload whose time ran out while another was run, and how often it was run all the same."""

    reply: Reply
    times_run: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many of the uploads in flight at SIGTERM were answered with 200, and how the server ended."""

    answered: int
    ending: Ending


async def poison(url: str) -> Poisoned:
    """Send one poisonous upload among eight while another batch is run, POISON_ROUNDS times."""
    mates: list[Reply] = []
    poisonous: list[Reply] = []
    for _ in range(POISON_ROUNDS):
        first = asyncio.create_task(call(url, request(url, flat(GOOD))))
        await asyncio.sleep(UNDER_WAY_S)
        images = [flat(GOOD)] * 4 + [flat(POISON)] + [flat(GOOD)] * 3
        replies = await asyncio.gather(*[call(url, request(url, image)) for image in images])
        poisonous.append(replies.pop(4))
        mates += replies
        await first
    statuses = tuple(reply.status for reply in poisonous)
    return Poisoned(len(mates), sum(reply.status == 200 for reply in mates), statuses)


async def hang_up(url: str, seen: Path) -> int:
    """Have HANG_UPS callers hang up while they wait behind slow work; return how many of their uploads were run."""
    first = asyncio.create_task(call(url, request(url, flat(SLOW))))
    await asyncio.sleep(UNDER_WAY_S)
    callers = await asyncio.gather(*[Caller.connect(url) for _ in range(HANG_UPS)])
    for caller in callers:
        await caller.send(request(url, flat(VANISHED)))
    await asyncio.sleep(SLOW_S / 2)
    for caller in callers:
        await caller.hang_up()
    await first
    await asyncio.sleep(2 * BATCH_S * HANG_UPS / BATCH_SIZE + 1)
    await call(url, request(url, flat(GOOD)))  # comes after them, if they are run at all
    return times_run(seen, VANISHED)


async def burst(url: str) -> Burst:
    """Send BURST uploads at once, over connections that are open already."""
    callers = await asyncio.gather(*[Caller.connect(url) for _ in range(BURST)])
    content = request(url, flat(GOOD))
    began = time.monotonic()

    async def one(caller: Caller) -> Reply:
        await caller.send(content)
        return await caller.reply(began)

    replies = await asyncio.gather(*[one(caller) for caller in callers])
    refused = tuple(reply for reply in replies if reply.status in {429, 503})
    others = tuple(reply for reply in replies if reply.status not in {200, 429, 503})
    return Burst(sum(reply.status == 200 for reply in replies), refused, others)


async def deadline(url: str, seen: Path) -> Deadline:
    """Send an upload that has DEADLINE_S behind one that takes SLOW_S; the server may have a limit of its own instead.

    Ours takes the limit from the request's header; the others do not look at it.
    """
    first = asyncio.create_task(call(url, request(url, flat(SLOW))))
    await asyncio.sleep(UNDER_WAY_S)
    late = request(url, flat(LATE), X_Request_Timeout_Ms=str(round(1000 * DEADLINE_S)))
    reply = await call(url, late)
    await first
    await asyncio.sleep(2 * BATCH_S + 1)
    return Deadline(reply, times_run(seen, LATE))


async def stop(url: str, server: ServerProcess) -> Stopped:
    """Send SIGTERM while IN_FLIGHT uploads are answered, the first of which takes long enough for all to arrive."""
    in_flight = [asyncio.create_task(call(url, request(url, flat(SLOW))))]
    await asyncio.sleep(UNDER_WAY_S)
    in_flight += [asyncio.create_task(call(url, request(url, flat(GOOD)))) for _ in range(IN_FLIGHT - 1)]
    await asyncio.sleep(SLOW_S / 2)
    server.terminate()
    ending = await asyncio.to_thread(server.wait_ended, GRACE_S)
    replies = await asyncio.gather(*in_flight)
    return Stopped(sum(reply.status == 200 for reply in replies), ending)


async def send_malformed(url: str) -> dict[str, Reply]:
    """Send every malformed request, one after another; return the replies by the requests' names."""
    return {one.name: await _send_malformed(url, one) for one in malformed()}


async def _send_malformed(url: str, one: Malformed) -> Reply:
    began = time.monotonic()
    caller = await Caller.connect(url)
    await caller.send(request(url, one.body, **dict(one.headers)))
    if one.ends_early:
        caller.send_no_more()
    return await caller.reply(began, patience_s=10)


async def is_well(url: str) -> bool:
    """Whether a sound upload is answered with 200."""
    return (await call(url, request(url, flat(GOOD)), patience_s=10)).status == 200


def statuses(replies: Sequence[Reply]) -> str:
    """Return how often each status came, for a table: "400 × 3, none × 1"."""
    seen = [reply.status for reply in replies]
    counts = {status: seen.count(status) for status in sorted(set(seen), key=lambda status: status or 0)}
    return ", ".join(f"{status or 'none'} × {count}" for status, count in counts.items())

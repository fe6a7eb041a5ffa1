"""A load generator: uploads to any URL, from a process of its own, so that it shares nothing with a server but cores.

Closed loop: a number of callers, each of which sends its next upload as soon as it has the answer to the last. Open
loop: uploads arrive as a Poisson process, whether or not earlier ones were answered, like those of many independent
people.

After a warm-up, windows are counted until three in a row agree within 10 %; the result is taken from these three. If
no three ever do, it is taken from the last three, and says so.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import uvloop

from service.benchmark.samples import ALIKE, Span, Summary, is_steady, poisson_arrivals, summarise
from service.benchmark.sender import Sender, connect
from service.benchmark.uploads import Body

PAUSE_S = 0.05
"""How long a closed loop's caller waits after getting no answer; else it would measure how fast a server says no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long to measure.

    At most `windows` windows of `window_s` are counted. In an open loop a window is longer if it needs to be, so that
    it holds at least `arrivals` on average. A caller without an answer after `timeout_s` gives up: the request failed.
    """

    warm_up_s: float = 3.0
    window_s: float = 5.0
    windows: int = 12
    arrivals: int = 60
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server did under one load.

    `callers` is None in an open loop, `rate` (arrivals per second) in a closed one. `seen` is of the last three
    windows; `windows` holds the images per second of each window. `answered_in_all` counts from the first request to
    the last, warm-up included, to be compared with the CPU time of the whole load. `generator_cpu_s` is the CPU time
    that the generator itself used.
    """

    callers: int | None
    rate: float | None
    seen: Summary
    is_steady: bool
    windows: tuple[float, ...]
    answered_in_all: int
    generator_cpu_s: float


def measure_closed(
    url: str,
    bodies: Sequence[Body],
    *,
    callers: int,
    timing: Timing = Timing(),
    api_key: str | None = None,
) -> Load:
    """POST `bodies` in turn to `url`, from `callers` callers at once, until the load is steady; return what was seen.

    With an `api_key` each upload carries it, as `Authorization: Bearer`.

    Raises:
        BadParameter: the very first upload is not answered with 200; the message says what came instead.
    """
    return _in_own_process(closed_loop, url, bodies, callers=callers, timing=timing, api_key=api_key)


def measure_open(
    url: str,
    bodies: Sequence[Body],
    *,
    rate: float,
    timing: Timing = Timing(),
    api_key: str | None = None,
) -> Load:
    """POST `bodies` in turn to `url`, `rate` of them per second at random (Poisson), until the load is steady.

    The arrival times are the same in every run. Latencies count from when an upload was due. `api_key`: as in
    `measure_closed`.

    Raises:
        BadParameter: as `measure_closed`.
    """
    return _in_own_process(open_loop, url, bodies, rate=rate, timing=timing, api_key=api_key)


async def closed_loop(
    url: str, bodies: Sequence[Body], *, callers: int, timing: Timing, api_key: str | None = None
) -> Load:
    """Do what `measure_closed` does, in this process and event loop."""
    async with connect(url, bodies, timeout_s=timing.timeout_s, headers=_headers(api_key)) as sender:
        work = [_call_again_and_again(sender) for _ in range(callers)]
        load = await _watch(sender, work, timing, _images_a_second)
    return replace(load, callers=callers)


async def open_loop(
    url: str, bodies: Sequence[Body], *, rate: float, timing: Timing, api_key: str | None = None
) -> Load:
    """Do what `measure_open` does, in this process and event loop."""
    timing = replace(timing, window_s=max(timing.window_s, timing.arrivals / rate))
    async with connect(url, bodies, timeout_s=timing.timeout_s, headers=_headers(api_key)) as sender:
        load = await _watch(sender, [_follow(sender, poisson_arrivals(rate, seed=0))], timing, _share_of_due)
    return replace(load, rate=rate)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Accept": "image/png"} | ({} if api_key is None else {"Authorization": f"Bearer {api_key}"})


async def _call_again_and_again(sender: Sender) -> None:
    """Be one caller of a closed loop."""
    while not sender.is_over:
        if await sender.send(sender.now_s) != "answered":
            await asyncio.sleep(PAUSE_S)


async def _follow(sender: Sender, arrivals: Iterable[float]) -> None:
    """Be all the callers of an open loop: each sends one upload when it is due, and waits for its answer."""
    started_s = sender.now_s
    async with asyncio.TaskGroup() as callers:
        for arrival_s in arrivals:
            due_s = started_s + arrival_s
            await asyncio.sleep(max(0.0, due_s - sender.now_s))
            if sender.is_over:
                return
            callers.create_task(sender.send(due_s))


async def _watch(
    sender: Sender,
    work: Iterable[Coroutine[None, None, None]],
    timing: Timing,
    rate_of: Callable[[Sender, Span], float],
) -> Load:
    """Do the work until windows are alike or their number is reached, and return what was seen."""
    cpu_s = time.process_time()
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
        spans, rates = await _count(sender, timing, rate_of)
        sender.is_over = True
    samples = sender.samples
    return Load(
        callers=None,
        rate=None,
        seen=summarise(samples, Span(spans[-ALIKE:][0].start_s, spans[-1].end_s)),
        is_steady=is_steady(rates),
        windows=tuple(_images_a_second(sender, span) for span in spans),
        answered_in_all=sum(one.outcome == "answered" for one in samples),
        generator_cpu_s=time.process_time() - cpu_s,
    )


async def _count(
    sender: Sender, timing: Timing, rate_of: Callable[[Sender, Span], float]
) -> tuple[list[Span], list[float]]:
    """Return the windows, one after another since the warm-up, and the rate of each as it was when the window ended."""
    start_s = sender.now_s + timing.warm_up_s
    spans: list[Span] = []
    rates: list[float] = []
    while len(spans) < timing.windows and not is_steady(rates):
        span = Span(start_s, start_s + timing.window_s)
        await asyncio.sleep(span.end_s - sender.now_s)
        spans.append(span)
        rates.append(rate_of(sender, span))
        start_s = span.end_s
    return spans, rates


def _images_a_second(sender: Sender, span: Span) -> float:
    return sum(one.outcome == "answered" and span.holds(one.over_s) for one in sender.samples) / span.length_s


def _share_of_due(sender: Sender, span: Span) -> float:
    """Return how many answers came per upload that was due: the arrivals alone are random, and never alike.

    A server that keeps up has about 1.
    """
    due = sum(span.holds(due_s) for due_s in sender.due)
    return _images_a_second(sender, span) * span.length_s / due if due else 1.0


def _in_own_process(loop: Callable[..., Coroutine[None, None, Load]], *arguments: object, **options: object) -> Load:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, loop, arguments, options).result()


def _run(
    loop: Callable[..., Coroutine[None, None, Load]], arguments: Sequence[object], options: Mapping[str, object]
) -> Load:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(loop(*arguments, **options))

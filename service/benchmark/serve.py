"""Measures a server under one load after another, and between them, while it is idle, the limit."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

import psutil
from tqdm import tqdm

from service.benchmark.bare import Bare, bare_engines
from service.benchmark.limit import Round, limit_of
from service.benchmark.load import Load, Timing, measure_closed, measure_open
from service.benchmark.processes import Watch, free_port, resident_bytes, running
from service.benchmark.serve_report import Row, Served, ServeReport
from service.benchmark.uploads import Body
from service.errors import BadParameter
from service.reproduction.machine import this_machine
from service.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure: for each modality its uploads, each number of callers, then each share of the capacity.

    Without a `url` a server is started with this process's environment, from which `settings` were read; otherwise
    `pid` may name the process that serves there. `api_key` goes with each upload, and is neither printed nor written.
    """

    uploads: Mapping[str, Sequence[Body]]
    callers: Sequence[int]
    shares: Sequence[float]
    timing: Timing
    settings: Settings
    with_limit: bool = True
    url: str | None = None
    pid: int | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is up: its root URL, and what is known of its process."""

    url: str
    pid: int | None
    ready_s: float | None = None
    rest_bytes: int | None = None


def benchmark(plan: Plan, *, log: Path) -> Iterator[ServeReport]:
    """Yield the report each time a load has been added to it. If a server is started, its output goes to `log`.

    Raises:
        NotReady: the server does not come up.
        BadParameter: it does not answer the uploads, or there is no process `pid`.
        UnknownModality, BadCheckpoint, BadSettings, BadUpload: the limit cannot be measured.
    """
    with ExitStack() as stack:
        target = stack.enter_context(_running_elsewhere(plan) if plan.url else _started(log))
        bare = stack.enter_context(bare_engines(plan.settings)) if plan.with_limit else None
        loads = len(plan.uploads) * (len(plan.callers) + len(plan.shares))
        progress = stack.enter_context(tqdm(total=loads, unit="load", leave=False, disable=None))
        report = ServeReport(
            machine=this_machine(),
            url=target.url if plan.url else None,
            settings=_changed(plan.settings) if plan.with_limit or not plan.url else {},
            timing=plan.timing,
            ready_s=target.ready_s,
            rest_bytes=target.rest_bytes,
        )
        for modality in plan.uploads:
            done = report.served
            for served in Loads(plan, target, bare, modality, cores=report.machine.cores):
                progress.update()
                report = report.model_copy(update={"served": (*done, served)})
                yield report


class Loads:
    """Iterates over the loads of one modality: each step runs one load, and gives all that is known by then."""

    def __init__(self, plan: Plan, target: Target, bare: Bare | None, modality: str, *, cores: int) -> None:
        self._plan, self._target, self._bare, self._cores = plan, target, bare, cores
        self._bodies = bodies = plan.uploads[modality]
        self._url = f"{target.url}/segment/{modality}"
        self._rounds: list[Round] = []
        self._served = Served(
            modality=modality, uploads=len(bodies), upload_bytes=fmean(len(body.content) for body in bodies)
        )

    def __iter__(self) -> Iterator[Served]:
        """Yield the record anew after each load: the closed loops come first, since they tell the capacity."""
        if self._bare is not None:
            device = self._bare.prepare(self._served.modality, self._bodies)
            self._served = self._served.model_copy(update={"device": device})
        timing, api_key = self._plan.timing, self._plan.api_key
        for callers in self._plan.callers:
            self._add(None, partial(measure_closed, callers=callers, timing=timing, api_key=api_key))
            yield self._served
        for share in self._plan.shares if self._served.capacity else ():  # a capacity of 0 has no shares
            rate = share * self._served.capacity
            self._add(share, partial(measure_open, rate=rate, timing=timing, api_key=api_key))
            yield self._served

    def _add(self, share: float | None, measure: Callable[[str, Sequence[Body]], Load]) -> None:
        """Measure a round of the limit while the server is idle, then the load."""
        served = self._served
        limit = None
        if self._bare is not None:
            self._rounds.append(self._bare.round(served.modality, self._bodies))
            limit = limit_of(self._rounds, cores=self._cores, is_on_gpu="cuda" in (served.device or ""))
        row = self._row(share, measure)
        self._served = served.model_copy(update={"limit": limit, "rows": (*served.rows, row)})

    def _row(self, share: float | None, measure: Callable[[str, Sequence[Body]], Load]) -> Row:
        if self._target.pid is None:
            return Row(load=measure(self._url, self._bodies), share=share)
        with Watch(self._target.pid) as watch:
            load = measure(self._url, self._bodies)
        return Row(load=load, share=share, cpu_s=watch.cpu_s, peak_bytes=watch.peak_bytes)


@contextmanager
def _started(log: Path) -> Iterator[Target]:
    """Start the server of this installation, with this process's environment."""
    url = f"http://127.0.0.1:{free_port()}"
    address = url.removeprefix("http://").split(":")
    command = [sys.executable, "-m", "service.cli", "serve", "--host", address[0], "--port", address[1]]
    with running(command, f"{url}/readyz", log=log) as server:
        yield Target(url, server.pid, server.ready_s, resident_bytes(server.pid))


@contextmanager
def _running_elsewhere(plan: Plan) -> Iterator[Target]:
    if plan.pid is not None and not psutil.pid_exists(plan.pid):
        raise BadParameter(f"--pid {plan.pid}: there is no such process; give that of the server, or leave it out")
    yield Target((plan.url or "").rstrip("/"), plan.pid)


def _changed(settings: Settings) -> dict[str, str]:
    """Return the variables that are not at their defaults, and their values."""
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    return {PREFIX + name.upper(): str(value) for name, value in changed.items()}

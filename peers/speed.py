"""Measures our server and the five others under the same loads, one after another, and prints one table.

`python -m peers.speed`; `make peers` does it. The table and what it was made of go into benchmark/.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from peers.contestants import CONTESTANTS, OURS, Contestant, environ_of
from peers.environments import NotInstalled
from peers.options import BATCH_SIZE, Options
from peers.server_process import NotStarted, ServerProcess, end_well_on_sigterm
from peers.speed_table import Speed, table
from peers.uploading import is_answered
from service.benchmark.bare import bare_engines
from service.benchmark.limit import Limit, Round, limit_of
from service.benchmark.load import Load, Timing, measure_closed, measure_open
from service.benchmark.processes import Watch, free_port
from service.benchmark.serve_report import Row
from service.benchmark.uploads import Body, draw_uploads, read_uploads
from service.errors import AlnetError
from service.reproduction.machine import Machine, this_machine
from service.settings import Settings

UPLOADS = 16
GRACE_S = 40.0


class Comparison(BaseModel):
    """All that was measured in one run; what comparison.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: Machine
    modality: str
    device: str
    limit: Limit | None
    timing: Timing
    speeds: tuple[Speed, ...]

    def to_markdown(self) -> str:
        """Return where it was measured, and the table."""
        head = f"{self.machine.describe()}. Uploads for {self.modality}; engine of all: {self.device}."
        return f"{head} {table(self.speeds, self.limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What every server is measured with: numbers of callers, and arrivals at shares of our server's capacity."""

    store: Path
    modality: str
    bodies: Sequence[Body]
    callers: Sequence[int]
    shares: Sequence[float]
    timing: Timing
    out: Path


def main() -> int:
    """Measure the servers that the command line names; return 0, also if some could not be run."""
    end_well_on_sigterm()
    options = _options()
    uploads = read_uploads(options.uploads) if options.uploads else draw_uploads(options.modality, UPLOADS)
    timing = Timing(
        warm_up_s=options.warm_up_s,
        window_s=options.window_s,
        windows=options.windows,
        arrivals=options.arrivals,
    )
    trial = Trial(
        store=options.store,
        modality=options.modality,
        bodies=uploads,
        callers=options.callers,
        shares=options.shares,
        timing=timing,
        out=options.out,
    )
    trial.out.mkdir(parents=True, exist_ok=True)
    text = ""
    for comparison in compare(trial, [CONTESTANTS[name] for name in options.only]):
        text = comparison.to_markdown()
        (trial.out / "peers.md").write_text(text)
        (trial.out / "peers.json").write_text(comparison.model_dump_json(indent=1))
    print(text)
    return 0


def compare(trial: Trial, contestants: Sequence[Contestant]) -> Iterator[Comparison]:
    """Yield the comparison each time that a server was added to it; ours, which the open loops need, comes first."""
    machine = this_machine()
    settings = Settings.read({}, store=trial.store, max_batch_size=BATCH_SIZE)
    rounds: list[Round] = []
    speeds: list[Speed] = []
    capacity: float | None = None
    with bare_engines(settings) as bare:
        device = bare.prepare(trial.modality, trial.bodies)
        for contestant in [OURS, *(one for one in contestants if one is not OURS)]:
            rounds.append(bare.round(trial.modality, trial.bodies))
            speed = measure(contestant, trial, capacity)
            if contestant is OURS:
                speed = speed.model_copy(update={"device": device})
            capacity = capacity or max((row.load.seen.throughput for row in speed.rows), default=None)
            speeds.append(speed)
            yield Comparison(
                machine=machine,
                modality=trial.modality,
                device=device,
                limit=limit_of(rounds, cores=machine.cores, is_on_gpu="cuda" in device),
                timing=trial.timing,
                speeds=tuple(speeds),
            )


def measure(contestant: Contestant, trial: Trial, capacity: float | None) -> Speed:
    """Return one server's speed, with open loops at shares of `capacity` (images/s), or of its own if that is None."""
    speed = Speed(name=contestant.name, label=contestant.label)
    seen = trial.out / f"{contestant.name}.device"
    try:
        python = contestant.python()
        options = Options(port=free_port(), store=trial.store, modality=trial.modality, seen=seen)
        url, log = contestant.url(options), trial.out / f"{contestant.name}.log"
        with ServerProcess(contestant.command(python, options), environ_of(options), log) as server:
            ready_s = server.wait_ready(partial(is_answered, url, trial.bodies[0]))
            speed = speed.model_copy(update={"ready_s": ready_s, "device": _device(seen)})
            for row in _rows(contestant, url, server.pid, trial, capacity):
                speed = speed.model_copy(update={"rows": (*speed.rows, row)})
            server.terminate()
            return speed.model_copy(update={"orphans": server.wait_ended(GRACE_S).orphans})
    except (NotInstalled, NotStarted, AlnetError, OSError) as error:
        print(f"{contestant.label}: {error}", flush=True)
        return speed.model_copy(update={"fault": str(error)})


def _rows(contestant: Contestant, url: str, pid: int, trial: Trial, capacity: float | None) -> Iterator[Row]:
    """Yield a row for each load: the closed loops first, since they tell the capacity."""
    highest = 0.0
    for callers in trial.callers:
        print(f"{contestant.label}: {callers} callers", flush=True)
        row = _row(pid, None, partial(measure_closed, url, trial.bodies, callers=callers, timing=trial.timing))
        highest = max(highest, row.load.seen.throughput)
        yield row
    for share in trial.shares:
        print(f"{contestant.label}: {share:.0%} of capacity", flush=True)
        rate = share * (capacity or highest)
        yield _row(pid, share, partial(measure_open, url, trial.bodies, rate=rate, timing=trial.timing))


def _device(seen: Path) -> str:
    """Return where a server's engine runs, as it said itself; empty of ours, which leaves no such file."""
    return seen.read_text() if seen.exists() else ""


def _row(pid: int, share: float | None, measure_load: Callable[[], Load]) -> Row:
    with Watch(pid) as watch:
        load = measure_load()
    return Row(load=load, share=share, cpu_s=watch.cpu_s, peak_bytes=watch.peak_bytes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="which, beside ours")
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="the model store")
    parser.add_argument("--modality", default="cell", help="whose checkpoint; cell has a grid of 512 × 512")
    parser.add_argument("--uploads", type=Path, help="a folder of images to send; otherwise drawn ones are")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32], help="closed loops")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.3, 0.6, 0.9], help="open loops, of our capacity")
    parser.add_argument("--warm-up-s", type=float, default=3.0)
    parser.add_argument("--window-s", type=float, default=5.0)
    parser.add_argument("--windows", type=int, default=12, help="most windows a load; three alike in a row end it")
    parser.add_argument("--arrivals", type=int, default=60, help="in a window of an open loop, on average")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder for the table and the JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

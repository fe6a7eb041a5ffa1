"""Runs the misbehaviour cases against our server and the five others, one after another, and prints one table.

`python -m peers.misbehaviour`; `make misbehaviour` does it. The table and what it was made of go into benchmark/.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from peers import cases
from peers.contestants import CONTESTANTS, Contestant, environ_of
from peers.environments import NotInstalled
from peers.misbehaviour_table import Behaviour, table
from peers.options import Options
from peers.server_process import NotStarted, ServerProcess, end_well_on_sigterm
from service.benchmark.processes import free_port

OUT = Path("benchmark")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    seen: Path
    process: ServerProcess


def main() -> int:
    """Run the servers that the command line names; return 0, also if some could not be run."""
    end_well_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="which servers")
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="a model store, for its cards")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the table and the JSON")
    options = parser.parse_args()
    behaviours: list[Behaviour] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        behaviours.append(behaviour(CONTESTANTS[name], options.store, options.out))
        text = table(behaviours)
        (options.out / "misbehaviour.md").write_text(text)
        (options.out / "misbehaviour.json").write_text(json.dumps([asdict(one) for one in behaviours], indent=1))
    print(text)
    return 0


def behaviour(contestant: Contestant, store: Path, out: Path) -> Behaviour:
    """Return what one server did, or why it could not be run."""
    try:
        python = contestant.python()
        print(f"{contestant.label}: malformed requests, cases 2, 3 and 6", flush=True)
        with _running(contestant, python, store, out, timeout_s=30.0) as server:
            malformed = asyncio.run(cases.send_malformed(server.url))
            is_well = asyncio.run(cases.is_well(server.url))
            poisoned = asyncio.run(cases.poison(server.url))
            vanished = asyncio.run(cases.hang_up(server.url, server.seen))
            stopped = asyncio.run(cases.stop(server.url, server.process))
        print(f"{contestant.label}: cases 4 and 5", flush=True)
        with _running(contestant, python, store, out, timeout_s=30.0) as server:
            burst = asyncio.run(cases.burst(server.url))
        own_limit_s = 30.0 if contestant.takes_deadlines else cases.DEADLINE_S
        with _running(contestant, python, store, out, timeout_s=own_limit_s) as server:
            deadline = asyncio.run(cases.deadline(server.url, server.seen))
    except (NotInstalled, NotStarted, OSError) as error:
        print(f"{contestant.label}: {error}", flush=True)
        return Behaviour(contestant.label, fault=str(error))
    return Behaviour(contestant.label, "", malformed, is_well, poisoned, vanished, burst, deadline, stopped)


@contextmanager
def _running(contestant: Contestant, python: Path, store: Path, out: Path, *, timeout_s: float) -> Iterator[Running]:
    """Start a server with the fake engine and wait until it answers an upload."""
    with tempfile.TemporaryDirectory(prefix="alnet-peers-") as folder:
        options = Options(
            port=free_port(),
            store=store,
            modality="skin",
            engine="fake",
            timeout_s=timeout_s,
            seen=Path(folder) / "seen",
        )
        url, log = contestant.url(options), out / f"{contestant.name}.log"
        with ServerProcess(contestant.command(python, options), environ_of(options), log) as process:
            process.wait_ready(lambda: asyncio.run(cases.is_well(url)))
            yield Running(url, options.seen, process)


if __name__ == "__main__":
    sys.exit(main())

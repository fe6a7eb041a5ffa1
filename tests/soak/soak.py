"""`make soak`: a server process, callers of every kind for ten minutes, and nothing may have grown. `--help` has more.

Prints a line every few seconds and at last what came of it; the exit code is 1 if something is wrong.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from tests.end_to_end.fake_server import LEAKS
from tests.end_to_end.server_process import ServerProcess
from tests.soak.callers import MAX_UPLOAD_MIB, Callers, Tally
from tests.soak.vitals import Vitals, growth

LINES = 40
"""How many readings are printed, about."""
BUGS = re.compile(r"Exception in ASGI|request \w+ failed$|never retrieved|never awaited|a listener to batches failed")
"""What the server's log has of no caller's making."""


@dataclass
class Report:
    """What a soak has found. `faults` is empty if all is well."""

    before: Vitals
    after: Vitals
    requests: int
    tally: Tally
    faults: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    arguments_of_server = ["--delay-s", "0.01", "--tiled", "cell"]
    if options.leak:
        arguments_of_server += ["--leak", *options.leak]
    with ServerProcess(
        *arguments_of_server, max_upload_mib=MAX_UPLOAD_MIB, upload_timeout_s=options.upload_timeout_s
    ) as server:
        server.wait_ready()
        report = asyncio.run(_soak(server, options.seconds, options.warm_up_s))
        if report.requests < options.requests:
            report.faults.append(f"only {report.requests} requests were made")
        server.terminate()
        if (code := server.exit_code()) != 0:
            report.faults.append(f"the server's exit code was {code}")
    report.faults += [f"the server's log has: {line.strip()}" for line in server.err if BUGS.search(line)]
    _show(report)
    return 1 if report.faults else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description="Calls a fake server in every way for a long time.")
    parser.add_argument("--seconds", type=float, default=600, help="how long all of it takes; default: %(default)s")
    parser.add_argument(
        "--warm-up-s", type=float, default=60, help="of which nothing counts so long; default: %(default)s"
    )
    parser.add_argument("--upload-timeout-s", type=float, default=8, help="the server's; default: %(default)s")
    parser.add_argument("--requests", type=int, default=10_000, help="how many are needed; default: %(default)s")
    parser.add_argument("--leak", nargs="+", default=[], choices=LEAKS, help="plant a leak: the soak must then fail")
    return parser.parse_args(arguments)


async def _soak(server: ServerProcess, seconds: float, warm_up_s: float) -> Report:
    tally = Tally()
    watching = asyncio.create_task(_watch(server, seconds))
    try:
        await Callers(server, tally, seed=1).call_for(warm_up_s)
        before = await asyncio.to_thread(Vitals.at_rest, server)
        await Callers(server, tally, seed=2).call_for(seconds - warm_up_s)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    after = await asyncio.to_thread(Vitals.at_rest, server)
    report = Report(before, after, len(server.out), tally, growth(before, after))
    report.faults += [f"{fault}, {times} times" for fault, times in tally.faults.items()]
    return report


async def _watch(server: ServerProcess, seconds: float) -> None:
    """Take and print readings as time goes by; `seconds` is how much of it there will be."""
    began = time.monotonic()
    with tqdm(total=round(seconds), unit="s", disable=None) as progress:
        while True:
            await asyncio.sleep(max(2.0, seconds / LINES))
            vitals = await asyncio.to_thread(Vitals.of, server)
            elapsed_s = round(time.monotonic() - began)
            progress.update(elapsed_s - progress.n)
            progress.write(_line(f"{elapsed_s} s", vitals, len(server.out)), file=sys.stdout)


def _line(when: str, vitals: Vitals, requests: int | str = "") -> str:
    return (
        f"{when:>10}  {vitals.memory_mib:7.1f} MiB  (most {vitals.peak_mib:7.1f})  {vitals.files:4.0f} files"
        f"  {vitals.threads:3.0f} threads  {vitals.tasks:3.0f} tasks  {requests:>7} requests"
    )


def _show(report: Report) -> None:
    for (kind, outcome), times in sorted(report.tally.outcomes.items()):
        print(f"{kind:>24} → {outcome:<10} {times:6}")
    print("At rest, after the warm-up and at the end (of memory, the most until then is what must not grow):")
    print(_line("before", report.before))
    print(_line("after", report.after, report.requests))
    print("\n".join(f"FAULT: {fault}" for fault in report.faults) or "nothing has grown, nothing was answered wrongly")


if __name__ == "__main__":
    sys.exit(main())

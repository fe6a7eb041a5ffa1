"""What of a server process must not grow, read from outside; and what is wrong if it has."""

import time
from dataclasses import dataclass, fields
from pathlib import Path

from tests.end_to_end.server_process import ServerProcess, until

MOST_GROWTH_MIB = 50.0
MOST_GROWTH = {"files": 0, "threads": 2, "tasks": 0}
"""A pool starts its next thread when it first has that much to do at once, which may be after the warm-up."""
QUIET_READINGS = 8
QUIET_S = 0.25


@dataclass(frozen=True)
class Vitals:
    """Resident memory, now and the most so far; open file descriptors; threads; tasks of the event loop.

    What is compared is the most so far, which the kernel keeps: how much an allocator gives back at rest is its whim,
    and readings every few seconds miss the peaks now in one half of a soak, now in the other.
    """

    memory_mib: float
    peak_mib: float
    files: float
    threads: float
    tasks: float

    @classmethod
    def of(cls, server: ServerProcess) -> "Vitals":
        """Read them; the request that asks for the tasks adds one to those, and to the descriptors."""
        process = Path(f"/proc/{server.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return cls(
            memory_mib=int(status["VmRSS"].split()[0]) / 1024,
            peak_mib=int(status["VmHWM"].split()[0]) / 1024,
            files=len(list((process / "fd").iterdir())),
            threads=int(status["Threads"]),
            tasks=server.metric("alnet_tasks"),
        )

    @classmethod
    def at_rest(cls, server: ServerProcess) -> "Vitals":
        """Read them while nobody calls: the least of some readings, since connections take a moment to be closed."""
        until(lambda: server.in_flight == 0)
        readings = []
        for _ in range(QUIET_READINGS):
            time.sleep(QUIET_S)
            readings.append(cls.of(server))
        return cls(*(min(getattr(reading, field.name) for reading in readings) for field in fields(cls)))


def growth(before: Vitals, after: Vitals) -> list[str]:
    """Say what has grown between two rests and should not have."""
    faults = []
    if (grown_mib := after.peak_mib - before.peak_mib) > MOST_GROWTH_MIB:
        faults.append(f"memory grew by {grown_mib:.0f} MiB, {MOST_GROWTH_MIB:g} are allowed")
    counts = {name: getattr(after, name) - getattr(before, name) for name in MOST_GROWTH}
    return faults + [f"{name} grew by {grown:.0f}" for name, grown in counts.items() if grown > MOST_GROWTH[name]]

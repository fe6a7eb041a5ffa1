"""What a benchmark of a server measures: the record in serve.json, from which tables and plots are made."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from service.benchmark.limit import Limit
from service.benchmark.load import Load, Timing
from service.reproduction.machine import Machine


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Frozen):
    """A modality under one load. `cpu_s` and `peak_bytes` are the server's; None if its process is not known.

    `share` is the part of the capacity (the highest throughput of the closed loops) that an open loop offered.
    """

    load: Load
    share: float | None
    cpu_s: float | None = None
    peak_bytes: int | None = None

    @property
    def name(self) -> str:
        """The load in words."""
        if self.share is not None:
            return f"open loop, {self.load.rate:.3g}/s ({self.share:.0%} of capacity)"
        return f"{self.load.callers} caller{'' if self.load.callers == 1 else 's'}"

    @property
    def cpu_s_an_image(self) -> float | None:
        """CPU time of the server per image that it answered, warm-up included."""
        answered = self.load.answered_in_all
        return None if self.cpu_s is None or not answered else self.cpu_s / answered


class Served(_Frozen):
    """One modality under all loads; `uploads` different uploads were sent, of `upload_bytes` on average.

    `device` and `limit` are of the bare engine; None if that was not measured.
    """

    modality: str
    uploads: int
    upload_bytes: float
    device: str | None = None
    limit: Limit | None = None
    rows: tuple[Row, ...] = ()

    @property
    def capacity(self) -> float:
        """The highest throughput of the closed loops, in images a second."""
        return max(row.load.seen.throughput for row in self.rows if row.share is None)

    def of_limit(self, row: Row) -> float | None:
        """Return the throughput of a load divided by the limit."""
        return None if self.limit is None else row.load.seen.throughput / self.limit.images_s

    def of_alone(self, row: Row) -> float | None:
        """Return a single caller's median latency divided by the least time of a lone request; None for other loads."""
        if self.limit is None or row.load.callers != 1 or row.load.seen.p50_ms is None:
            return None
        return row.load.seen.p50_ms / (1000 * self.limit.alone_s)


class ServeReport(_Frozen):
    """All that was measured in one run, and on which machine.

    `url` is None if the server was started for the run; only then are `ready_s` (from its start to /readyz 200) and
    `rest_bytes` (its memory then) known. `settings` are the `ALNET_` variables that differ from their defaults. They
    are those of the started server and of the bare engine; with a `url`, of the engine alone, as the server's are not
    known.
    """

    machine: Machine
    url: str | None
    settings: Mapping[str, str]
    timing: Timing
    ready_s: float | None = None
    rest_bytes: int | None = None
    served: tuple[Served, ...] = ()

"""Records of benchmarks of a server, made up."""

from service.benchmark.limit import Limit, Round
from service.benchmark.load import Load, Timing
from service.benchmark.samples import Summary
from service.benchmark.serve_report import Row, Served, ServeReport
from service.reproduction.machine import Machine

LIMIT = Limit(
    seconds=Round(before_s=0.006, engine_alone_s=0.030, engine_full_s=0.020, after_s=0.004), cores=2, is_on_gpu=False
)
"""40 images/s, and 40 ms for a lone request."""


def row(
    throughput: float,
    *,
    callers: int | None = None,
    share: float | None = None,
    p50_ms: float | None = 50.0,
    is_steady: bool = True,
    cpu_s: float | None = 18.0,
) -> Row:
    """Return a row: a closed loop if there are `callers`, or an open one at a `share` of 20 images/s."""
    seen = Summary(
        throughput=throughput,
        p50_ms=p50_ms,
        p95_ms=None if p50_ms is None else 2 * p50_ms,
        p99_ms=None if p50_ms is None else 3 * p50_ms,
        answered=round(15 * throughput),
        refused=4,
        failed=2,
        received_bytes=1000,
    )
    load = Load(
        callers=callers,
        rate=None if share is None else 20 * share,
        seen=seen,
        is_steady=is_steady,
        windows=(throughput,) * 3,
        answered_in_all=1000,
        generator_cpu_s=0.1,
    )
    return Row(load=load, share=share, cpu_s=cpu_s, peak_bytes=None if cpu_s is None else 900 * 2**20)


def served(*rows: Row, limit: Limit | None = LIMIT) -> Served:
    return Served(
        modality="cell",
        uploads=8,
        upload_bytes=200 * 1024,
        device=None if limit is None else "cpu bfloat16",
        limit=limit,
        rows=rows,
    )


def report(*modalities: Served) -> ServeReport:
    machine = Machine(
        date="2026-01-02 03:04 UTC",
        commit="abc",
        cpu="Some CPU",
        cores=2,
        threads=2,
        gpu=None,
        torch="2.13.0",
        python="3.11.7",
    )
    return ServeReport(
        machine=machine,
        url=None,
        settings={"ALNET_THREADS": "2"},
        timing=Timing(),
        ready_s=12.34,
        rest_bytes=700 * 2**20,
        served=modalities,
    )

"""A benchmark of a server as Markdown: for each modality its limit, and a table with a row for each load."""

from service.benchmark.limit import Limit
from service.benchmark.samples import TOLERANCE
from service.benchmark.serve_report import Row, Served, ServeReport
from service.reproduction.milliseconds import milliseconds

NOTHING = "–"

COLUMNS = (
    "load",
    "images/s",
    "of the limit",
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "p50 of the lone bound",
    "answered",
    "refused",
    "failed",
    "CPU s an image",
    "peak MiB",
)


def serve_table(report: ServeReport) -> str:
    """Return what was measured as Markdown: where and how, then limit and table of each modality."""
    return "\n\n".join([_head(report), *(_section(served) for served in report.served)]) + "\n"


def _head(report: ServeReport) -> str:
    timing = report.timing
    lines = [f"{report.machine.describe()}{_setup(report)}"]
    if report.ready_s is not None:
        lines.append(f"From start to `/readyz`: {report.ready_s:.1f} s.")
    if report.rest_bytes is not None:
        lines.append(f"Memory at rest: {_mib(report.rest_bytes)} MiB.")
    lines.append(
        f"Each row: {timing.warm_up_s:g} s to warm up, then windows of {timing.window_s:g} s (in an open loop of "
        f"{timing.arrivals} arrivals, if that is longer) until three in a row lie within {TOLERANCE - 1:.0%}."
    )
    return " ".join(lines)


def _setup(report: ServeReport) -> str:
    """Return what the server runs with; of one that was running already, only the address is known."""
    settings = ", ".join(f"`{name}={value}`" for name, value in report.settings.items()) or "the defaults"
    if report.url is None:
        return f". Settings: {settings}."
    sent = f", which sent the load to `{report.url}`; what that server runs on, and its settings, are not known here."
    has_limit = any(served.limit is not None for served in report.served)
    return f"{sent} Settings of the limit: {settings}." if has_limit else sent


def _section(served: Served) -> str:
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(_cells(served, row) for row in served.rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    uploads = f"{served.uploads} different uploads of {served.upload_bytes / 1024:,.0f} KiB on average."
    limit = "" if served.limit is None else f" {_limit(served.limit, served.device or '')}"
    return f"### {served.modality}\n\n{uploads}{limit}\n\n{table}"


def _limit(limit: Limit, device: str) -> str:
    seconds = limit.seconds
    return (
        f"Engine: {device}. An upload takes {_ms(1000 * seconds.before_s)} ms to decode and fit and "
        f"{_ms(1000 * seconds.after_s)} ms to restore and encode, in one thread, and the network "
        f"{_ms(1000 * seconds.engine_alone_s)} ms alone, {_ms(1000 * seconds.engine_full_s)} ms in a full batch. "
        f"So the limit is {limit.images_s:.1f} images/s on {limit.cores} cores, and {_ms(1000 * limit.alone_s)} ms for "
        "a lone request."
    )


def _cells(served: Served, row: Row) -> tuple[str, ...]:
    """Return the cells of one load; a throughput that never became steady is marked."""
    seen = row.load.seen
    cpu_s = row.cpu_s_an_image
    return (
        row.name,
        f"{seen.throughput:.1f}{'' if row.load.is_steady else ' (not steady)'}",
        _ratio(served.of_limit(row)),
        _ms(seen.p50_ms),
        _ms(seen.p95_ms),
        _ms(seen.p99_ms),
        _ratio(served.of_alone(row)),
        f"{seen.answered:,}",
        f"{seen.refused:,}",
        f"{seen.failed:,}",
        NOTHING if cpu_s is None else f"{cpu_s:.4f}",
        NOTHING if row.peak_bytes is None else _mib(row.peak_bytes),
    )


def _ms(time_ms: float | None) -> str:
    return NOTHING if time_ms is None else milliseconds(time_ms)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f}"


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"

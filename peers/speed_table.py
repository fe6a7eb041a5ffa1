"""How fast servers are beside each other, as one Markdown table: for each load a row a server."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from service.benchmark.limit import Limit
from service.benchmark.serve_report import Row

NOTHING = "–"

COLUMNS = (
    "load",
    "server",
    "images/s",
    "× plain handler",
    "of the limit",
    "p50, ms",
    "p99, ms",
    "refused",
    "failed",
    "CPU s an image",
    "peak MiB",
)


class Speed(BaseModel):
    """One server under every load; or `fault`, why it could not be run or not be measured to the end.

    `device` is where its engine runs and in which precision: the same for all, or they cannot be compared. `ready_s` is
    the time from its start to its first answer. `orphans` counts the processes that were left of it two
    seconds after it had ended, or is None if it had to be killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str
    fault: str = ""
    device: str = ""
    ready_s: float | None = None
    rows: tuple[Row, ...] = ()
    orphans: int | None = None


def table(speeds: Sequence[Speed], limit: Limit | None) -> str:
    """Return the table and, below it, how each server came up and ended. `plain` is what others are compared with."""
    plain = next((one for one in speeds if one.name == "plain"), None)
    loads = max((len(one.rows) for one in speeds), default=0)
    lines = [COLUMNS, ("---", "---", *["---:"] * (len(COLUMNS) - 2))]
    for index in range(loads):
        beside = plain.rows[index] if plain and len(plain.rows) > index else None
        lines += [_cells(one, one.rows[index], beside, limit) for one in speeds if len(one.rows) > index]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([_limit(limit), text, "\n".join(_life(one) for one in speeds)]) + "\n"


def _cells(speed: Speed, row: Row, beside: Row | None, limit: Limit | None) -> tuple[str, ...]:
    seen = row.load.seen
    cpu_s = row.cpu_s_an_image
    return (
        row.name,
        speed.label,
        f"{seen.throughput:.1f}{'' if row.load.is_steady else ' (not steady)'}",
        _ratio(seen.throughput, beside.load.seen.throughput if beside else None),
        _ratio(seen.throughput, limit.images_s if limit else None),
        _ms(seen.p50_ms),
        _ms(seen.p99_ms),
        str(seen.refused),
        str(seen.failed),
        NOTHING if cpu_s is None else f"{cpu_s:.4f}",
        NOTHING if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.0f}",
    )


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return "The limit was not measured."
    return f"The limit, measured between the servers: {limit.images_s:.1f} images/s on {limit.cores} cores."


def _life(speed: Speed) -> str:
    ready = "" if speed.ready_s is None else f" {speed.device}; first answer after {speed.ready_s:.1f} s;"
    if speed.fault:
        return f"- {speed.label}:{ready} {speed.fault}"
    if speed.orphans is None:
        return f"- {speed.label}:{ready} had to be killed after SIGTERM."
    return f"- {speed.label}:{ready} processes left after SIGTERM: {speed.orphans}."


def _ms(time_ms: float | None) -> str:
    return NOTHING if time_ms is None else f"{time_ms:,.1f}"


def _ratio(value: float, over: float | None) -> str:
    return f"{value / over:.2f}" if over else NOTHING

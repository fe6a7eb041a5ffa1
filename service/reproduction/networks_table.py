"""A benchmark of networks as Markdown: a table for each device and image size, each time beside its ratio to AL-Net."""

from collections.abc import Iterable, Mapping, Sequence

from service.reproduction.milliseconds import milliseconds
from service.reproduction.networks_report import Measurement, Report
from service.reproduction.paper import paper_time_ms

NOTHING = "–"
OUT_OF_MEMORY = "out of memory"


def networks_table(report: Report) -> str:
    """Return what was measured as Markdown: first where and how, then a table for each device and image size.

    × is a network's time divided by that of AL-Net as it is served, on the same batch; it is left out where AL-Net was
    not measured. Where the paper gives times for that size, they are in the last two columns.
    """
    head = (
        f"{report.machine.describe()}. Median of {report.repeat} forward passes after {report.warm_up} to warm up, the "
        "networks in turn. ms: of a batch; ×: over AL-Net; MiB: weights, input and a pass's peak beside them."
    )
    return "\n\n".join([head, *(_section(measured) for measured in report.places())]) + "\n"


def _section(measured: Sequence[Measurement]) -> str:
    """Return heading and table of one device and size: a row for each network, three columns for each batch size."""
    batches = list(dict.fromkeys(one.setting.batch for one in measured))
    with_paper = any(paper_time_ms(one.network, one.setting.size) for one in measured)
    columns = ["network", "parameters, M", "GMAC an image"]
    columns += [f"batch {batch}: {unit}" for batch in batches for unit in ("ms", "×", "MiB")]
    columns += ["paper, P100: ms", "×"] if with_paper else []
    rows = [_row(by_batch, _al_net_ms(measured), with_paper=with_paper) for by_batch in _by_network(measured)]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return f"### {measured[0].setting.place}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(by_batch: Sequence[Measurement], al_net_ms: Mapping[int, float | None], *, with_paper: bool) -> list[str]:
    """Return the cells of one network: name, parameters and GMAC, then time, ratio and memory of each batch size."""
    first = by_batch[0]
    cells = [first.title, f"{first.parameters / 1e6:.2f}", f"{first.macs / 1e9:.2f}"]
    for one in by_batch:
        memory = OUT_OF_MEMORY if one.peak_bytes is None else f"{one.peak_bytes / 2**20:,.0f}"
        cells += [*_time(one.median_ms, al_net_ms.get(one.setting.batch), missing=OUT_OF_MEMORY), memory]
    if with_paper:
        size = first.setting.size
        printed = paper_time_ms(first.network, size) if first.form == "served" else None
        cells += _time(printed, paper_time_ms("al-net", size), missing=NOTHING)
    return cells


def _time(time_ms: float | None, al_net_ms: float | None, *, missing: str) -> list[str]:
    """Return a time and its ratio to AL-Net's as two cells."""
    if time_ms is None:
        return [missing, NOTHING]
    return [milliseconds(time_ms), f"{time_ms / al_net_ms:.2f}" if al_net_ms else NOTHING]


def _al_net_ms(measured: Iterable[Measurement]) -> dict[int, float | None]:
    return {one.setting.batch: one.median_ms for one in measured if (one.network, one.form) == ("al-net", "served")}


def _by_network(measured: Iterable[Measurement]) -> list[list[Measurement]]:
    """Return the measurements of each network and form, whose batch sizes come in the same order for all."""
    networks: dict[str, list[Measurement]] = {}
    for one in measured:
        networks.setdefault(one.title, []).append(one)
    return list(networks.values())

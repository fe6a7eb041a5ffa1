"""Latency over throughput, one line per modality and kind of load, and the limit as a wall."""

from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.benchmark.serve_report import Row, Served, ServeReport

PALETTE = colormaps["tab10"]


def draw_latency(report: ServeReport, path: Path) -> None:
    """Draw latency over throughput into a PNG, a panel for each modality: p50, and p99 as the end of a bar above it."""
    panels = max(1, len(report.served))
    figure = Figure(figsize=(5.0 * panels, 4.2), layout="constrained")
    for axes, served in zip(figure.subplots(1, panels, squeeze=False).flat, report.served, strict=False):
        _draw(axes, served)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def points(rows: tuple[Row, ...], *, is_open: bool) -> list[tuple[float, float, float]]:
    """Return (throughput in images/s, p50 in ms, p99 in ms) of the closed or the open loops that had any answers."""
    found = []
    for row in rows:
        seen = row.load.seen
        if (row.share is not None) == is_open and seen.p50_ms is not None and seen.p99_ms is not None:
            found.append((seen.throughput, seen.p50_ms, seen.p99_ms))
    return found


def _draw(axes: Axes, served: Served) -> None:
    for colour, (label, is_open) in enumerate((("closed loop", False), ("open loop", True))):
        found = points(served.rows, is_open=is_open)
        if found:
            throughput, p50, p99 = zip(*found, strict=True)
            above = [high - low for low, high in zip(p50, p99, strict=True)]
            axes.errorbar(
                throughput,
                p50,
                yerr=([0.0] * len(above), above),
                color=PALETTE(colour),
                marker="o",
                capsize=3,
                label=f"{label}: p50, bar to p99",
            )
    if served.limit is not None:
        axes.axvline(served.limit.images_s, color="0.3", linestyle="--", label="limit")
        axes.axhline(1000 * served.limit.alone_s, color="0.6", linestyle=":", label="least time of a lone request")
    axes.set(title=served.modality, xlabel="images/s", ylabel="ms", yscale="log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    if served.rows:
        axes.legend(fontsize="small")

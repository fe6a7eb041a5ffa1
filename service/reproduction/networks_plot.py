"""Accuracy over speed, one point per network (the AL-Net paper's Fig. 8)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from service.reproduction.networks_report import TITLES, Measurement, Report
from service.reproduction.paper import INPUT_SIZES, paper_iou

AREA_A_MILLION = 12
"""Area of a mark for each million of parameters, in square points."""
COLUMNS = 3
PALETTE = colormaps["tab10"]
COLOURS = {key: PALETTE(index) for index, key in enumerate(TITLES)}


@dataclass(frozen=True, slots=True)
class Panel:
    """One device, image size and source of IoU (fractions, by the networks' keys), and the networks to show."""

    title: str
    measured: Sequence[Measurement]
    iou: Mapping[str, float]


def draw_speed_accuracy(report: Report, path: Path, scores: Mapping[str, float] | None = None) -> None:
    """Draw IoU over the time of the first batch size into a PNG: a panel for each device, image size and IoU source.

    `scores` are the networks' IoU by key; without them, the IoU that the paper prints are used, and the titles say so.
    """
    panels = list(speed_accuracy(report, scores))
    rows, columns = math.ceil(len(panels) / COLUMNS), min(len(panels), COLUMNS)
    figure = Figure(figsize=(3.6 * columns + 2.6, 3.6 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    shown = {one.title: one for panel in panels for one in panel.measured}
    figure.legend(handles=[_legend_entry(one) for one in shown.values()], loc="outside right center")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def speed_accuracy(report: Report, scores: Mapping[str, float] | None) -> Iterator[Panel]:
    """Yield a panel for each device and image size; without `scores`, one for each data set of that size.

    A size that no data set has (Table 1) is then shown with the paper's IoU on the cell data. A network without an IoU
    or without a time is not shown.
    """
    for measured in report.places():
        setting = measured[0].setting
        timed = [one for one in measured if one.setting.batch == setting.batch and one.times_ms]
        if scores is not None:
            sources = {"": scores}
        else:
            modalities = [name for name, size in INPUT_SIZES.items() if size == setting.size] or ["cell"]
            sources = {f"\nIoU: the paper's, {name} data": _paper_ious(name) for name in modalities}
        for source, iou in sources.items():
            yield Panel(f"{setting.place}{source}", [one for one in timed if one.network in iou], iou)


def _paper_ious(modality: str) -> dict[str, float]:
    return {key: iou for key in TITLES if (iou := paper_iou(key, modality)) is not None}


def _draw(axes: Axes, panel: Panel) -> None:
    for one in sorted(panel.measured, key=lambda one: -one.parameters):  # small marks over large ones
        axes.scatter(
            one.median_ms or math.nan,
            panel.iou[one.network],
            s=AREA_A_MILLION * one.parameters / 1e6,
            edgecolors=[COLOURS[one.network]],
            facecolors=[_fill(one)],
        )
    axes.set(xscale="log", ylabel="IoU")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    if panel.measured:
        axes.set_xlabel(f"ms for a batch of {panel.measured[0].setting.batch}")
    axes.set_title(panel.title, fontsize="medium")
    axes.margins(0.15)
    axes.grid(alpha=0.3)


def _legend_entry(one: Measurement) -> Line2D:
    label = f"{one.title}, {one.parameters / 1e6:.2f} M"
    colour = COLOURS[one.network]
    return Line2D([], [], linestyle="", marker="o", markeredgecolor=colour, markerfacecolor=_fill(one), label=label)


def _fill(one: Measurement) -> tuple[float, float, float, float]:
    """Return the inside of a mark: the network's colour, so that others shine through, or none for a training form."""
    red, green, blue, _ = COLOURS[one.network]
    return red, green, blue, 0.6 if one.form == "served" else 0.0

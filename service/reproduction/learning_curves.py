"""How training went: loss and validation IoU of all networks in one plot, over the epochs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from service.errors import BadConfig
from service.reproduction.networks_plot import COLOURS
from service.reproduction.networks_report import TITLES
from service.training.run_folder import EPOCHS


@dataclass(frozen=True, slots=True)
class Curves:
    """Points (epoch, value) of one run, epochs counted from 1; only some epochs are validated."""

    loss: Sequence[tuple[int, float]]
    validation_iou: Sequence[tuple[int, float]]


def read_curves(run: Path) -> Curves:
    """Return the curves of the run in the folder `run`, as far as it has come.

    Raises:
        BadConfig: the file of its epochs is lost or damaged.
    """
    advice = "remove result.json there, and the run finishes again"
    try:
        with (run / EPOCHS).open(newline="", encoding="utf-8") as file:
            rows = list(enumerate(csv.DictReader(file), start=1))  # files of older runs count them from 0
        return Curves(
            loss=[(epoch, float(row["loss"])) for epoch, row in rows],
            validation_iou=[(epoch, float(row["validation_iou"])) for epoch, row in rows if row["validation_iou"]],
        )
    except FileNotFoundError as error:
        raise BadConfig(f"{run} has lost {EPOCHS}, which tells how its epochs went; {advice}") from error
    except OSError as error:
        raise BadConfig(f"{run / EPOCHS} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadConfig(f"{run / EPOCHS} is damaged; {advice}") from error


def draw_learning_curves(runs: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Draw the curves of each network's run folders into a PNG: one line per run, one colour per network."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    loss, iou = figure.subplots(1, 2)
    for network, folders in runs.items():
        for number, curves in enumerate(map(read_curves, folders)):
            label = TITLES[network] if number == 0 else None
            loss.plot(*_axes(curves.loss), color=COLOURS[network], label=label, linewidth=1, marker=".")
            iou.plot(*_axes(curves.validation_iou), color=COLOURS[network], linewidth=1, marker=".")
    for axes, title in ((loss, "training loss"), (iou, "validation IoU")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside right center")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def _axes(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [epoch for epoch, _ in points], [value for _, value in points]

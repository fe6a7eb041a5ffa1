"""The folder that a benchmark of networks leaves: networks.md to read, networks.json to compute with, networks.png."""

from collections.abc import Mapping
from pathlib import Path

from service.reproduction.networks_plot import draw_speed_accuracy
from service.reproduction.networks_report import Report
from service.reproduction.networks_table import networks_table
from service.store.durable import naming


def write(report: Report, folder: Path, scores: Mapping[str, float] | None) -> None:
    """Write the three files into `folder`, replacing those that are there; `scores` are the plot's IoU by network."""
    with naming(folder):
        (folder / "networks.md").write_text(networks_table(report), encoding="utf-8")
        (folder / "networks.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draw_speed_accuracy(report, folder / "networks.png", scores)

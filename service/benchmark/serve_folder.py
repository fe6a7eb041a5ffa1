"""The files that a benchmark of a server leaves: the record, the table and the plot."""

from pathlib import Path

from service.benchmark.serve_plot import draw_latency
from service.benchmark.serve_report import ServeReport
from service.benchmark.serve_table import serve_table


def write(report: ServeReport, folder: Path) -> None:
    """Write serve.json, serve.md and serve.png into the folder."""
    (folder / "serve.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "serve.md").write_text(serve_table(report), encoding="utf-8")
    draw_latency(report, folder / "serve.png")

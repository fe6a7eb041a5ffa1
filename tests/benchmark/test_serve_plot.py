"""The plot of a benchmark of a server."""

from pathlib import Path

from PIL import Image as PillowImage

from service.benchmark.serve_plot import draw_latency, points
from tests.benchmark.reports import report, row, served

ROWS = (row(16.0, callers=1, p50_ms=60.0), row(0.0, callers=8, p50_ms=None), row(18.0, share=0.9, p50_ms=90.0))


def test_a_point_is_a_load_that_was_answered() -> None:
    assert points(ROWS, is_open=False) == [(16.0, 60.0, 180.0)]
    assert points(ROWS, is_open=True) == [(18.0, 90.0, 270.0)]


def test_each_modality_has_a_panel_even_with_little_to_show(tmp_path: Path) -> None:
    records = {"none": report(), "one": report(served(*ROWS)), "two": report(served(*ROWS), served(limit=None))}
    widths = {}
    for name, record in records.items():
        draw_latency(record, tmp_path / f"{name}.png")
        with PillowImage.open(tmp_path / f"{name}.png") as picture:
            assert picture.format == "PNG"
            widths[name] = picture.width
    assert widths["none"] == widths["one"]
    assert widths["two"] == 2 * widths["one"]

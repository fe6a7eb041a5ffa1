"""The table of a benchmark of a server."""

import pytest

from service.benchmark.limit import Limit
from service.benchmark.serve_table import serve_table
from tests.benchmark.reports import LIMIT, report, row, served


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_table_says_where_how_and_what() -> None:
    table = serve_table(report(served(row(16.0, callers=1), row(30.0, callers=8), row(18.0, share=0.9))))
    lines = table.splitlines()
    assert lines[0] == (
        "2026-01-02 03:04 UTC, commit `abc`, Some CPU, 2 cores, 2 threads; PyTorch 2.13.0, Python 3.11.7. "
        "Settings: `ALNET_THREADS=2`. From start to `/readyz`: 12.3 s. Memory at rest: 700 MiB. Each row: 3 s to warm "
        "up, then windows of 5 s (in an open loop of 60 arrivals, if that is longer) until three in a row lie within "
        "10%."
    )
    assert "### cell" in lines
    assert (
        "8 different uploads of 200 KiB on average. Engine: cpu bfloat16. An upload takes 6.00 ms to decode and fit "
        "and 4.00 ms to restore and encode, in one thread, and the network 30.0 ms alone, 20.0 ms in a full batch. So "
        "the limit is 40.0 images/s on 2 cores, and 40.0 ms for a lone request."
    ) in lines
    times = ["50.0", "100.0", "150.0"]
    cost = ["4", "2", "0.0180", "900"]
    assert [_cells(line) for line in lines[-3:]] == [
        ["1 caller", "16.0", "0.40", *times, "1.25", "240", *cost],
        ["8 callers", "30.0", "0.75", *times, "–", "450", *cost],
        ["open loop, 18/s (90% of capacity)", "18.0", "0.45", *times, "–", "270", *cost],
    ]


@pytest.mark.parametrize(
    ("limit", "settings"), [(LIMIT, " Settings of the limit: `ALNET_THREADS=2`."), (None, "")], ids=["limit", "none"]
)
def test_a_server_that_was_there_is_not_said_to_have_the_settings_of_this_environment(
    limit: Limit | None, settings: str
) -> None:
    elsewhere = report(served(row(16.0, callers=1), limit=limit)).model_copy(
        update={"url": "http://far:8000", "ready_s": None, "rest_bytes": None}
    )
    assert serve_table(elsewhere).splitlines()[0] == (
        "2026-01-02 03:04 UTC, commit `abc`, Some CPU, 2 cores, 2 threads; PyTorch 2.13.0, Python 3.11.7, which sent "
        "the load to `http://far:8000`; what that server runs on, and its settings, are not known here."
        f"{settings} Each row: 3 s to warm up, then windows of 5 s (in an open loop of 60 arrivals, if that is longer) "
        "until three in a row lie within 10%."
    )


def test_what_never_became_steady_is_marked() -> None:
    table = serve_table(report(served(row(16.0, callers=8, is_steady=False))))
    assert "| 16.0 (not steady) |" in table


def test_what_was_not_measured_is_left_out() -> None:
    table = serve_table(report(served(row(0.0, callers=1, p50_ms=None, cpu_s=None), limit=None)))
    assert _cells(table.splitlines()[-1]) == ["1 caller", "0.0", "–", "–", "–", "–", "–", "0", "4", "2", "–", "–"]
    assert "limit is" not in table

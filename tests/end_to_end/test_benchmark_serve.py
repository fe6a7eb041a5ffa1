"""alnet benchmark serve, whole: against a server that it starts itself, and against one that runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.key_file import add_key
from service.benchmark.serve_report import ServeReport
from service.benchmark.serve_table import serve_table
from service.commands.benchmark_serve import KEY_VARIABLE
from tests.checkpoints import publish_tiny
from tests.doubles import fake_engine_card
from tests.end_to_end.server_process import ServerProcess

SHORT = ("--uploads", "2", "--warm-up-s", "0.5", "--window-s", "0.7", "--windows", "3", "--quick", "--modality", "cell")


def _benchmark(out: Path, *arguments: str, key: str = "", **settings: object) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ALNET_")}
    environ |= {f"ALNET_{name.upper()}": str(value) for name, value in settings.items()} | {KEY_VARIABLE: key}
    command = [sys.executable, "-m", "service.cli", "benchmark", "serve", "--out", str(out), *SHORT, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_a_server_of_its_own_is_measured_beside_its_limit(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "store", "cell", training_images=fake_engine_card("cell").training_images)
    out = tmp_path / "out"
    done = _benchmark(out, store=tmp_path / "store", threads=1, decode_threads=1)
    assert done.returncode == 0, done.stderr
    report = ServeReport.model_validate_json((out / "serve.json").read_bytes())
    assert (out / "serve.md").read_text() == serve_table(report)
    assert done.stdout == f"{serve_table(report)}\ntable, figures and plot: {out}\n"
    assert report.settings == {
        "ALNET_STORE": str(tmp_path / "store"),
        "ALNET_THREADS": "1",
        "ALNET_DECODE_THREADS": "1",
    }
    assert report.ready_s is not None
    assert report.rest_bytes is not None
    (served,) = report.served
    assert [row.name.split(" (")[-1] for row in served.rows] == ["1 caller", "8 callers", "60% of capacity)"]
    assert served.limit is not None
    for row in served.rows:
        assert row.load.answered_in_all > 0
        assert (row.load.seen.refused, row.load.seen.failed) == (0, 0)
        assert row.cpu_s is not None
        assert row.cpu_s > 0
        assert row.peak_bytes is not None
        assert row.peak_bytes > 100 * 2**20
    assert "listening on" in (out / "serve.log").read_text()


def test_a_server_that_runs_is_measured_as_it_is(tmp_path: Path) -> None:
    key, out = add_key(tmp_path / "api-keys", "load"), tmp_path / "out"
    with ServerProcess("--modalities", "cell", "--delay-s", "0.05", api_keys=tmp_path / "api-keys") as server:
        server.wait_ready()
        known = ("--no-limit", "--url", f"{server.url}/", "--pid", str(server.pid), "--callers", "1", "--callers", "1")
        done = _benchmark(out, *known, key=key, threads=1)
        assert (done.returncode, done.stderr) == (0, "")  # no bar of progress where nobody watches it
        server.wait_ready()  # it is left running
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(files) == {"serve.json", "serve.md", "serve.png"}
    assert not [one for one in (*files.values(), done.stdout.encode(), done.stderr.encode()) if key.encode() in one]
    report = ServeReport.model_validate_json(files["serve.json"])
    assert report.ready_s is None
    assert report.settings == {}  # ALNET_THREADS was not that server's
    assert [row.load.callers for row in report.served[0].rows] == [1, None]
    alone = report.served[0].rows[0]
    assert alone.load.seen.p50_ms is not None
    assert alone.load.seen.p50_ms >= 50
    assert alone.cpu_s is not None


def test_a_modality_that_is_not_served_is_one_clear_line(tmp_path: Path) -> None:
    with ServerProcess("--modalities", "retina") as server:
        server.wait_ready()
        done = _benchmark(tmp_path, "--no-limit", "--url", server.url)
    assert done.returncode == 2
    assert "does not answer an upload with 200: 404" in done.stderr.splitlines()[-1]

"""Servers are started, watched and ended, with all that they start."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.benchmark.processes import Watch, free_port, resident_bytes, running, why_not_ready
from service.errors import NotReady

SERVER = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b"loading")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


TERMINATED = """
import sys, time
from pathlib import Path
from service.benchmark.load import _in_own_process
from service.benchmark.processes import end_in_order_at_sigterm, running
from tests.benchmark.test_processes import _server, sleep
port, log = int(sys.argv[1]), Path(sys.argv[2])
if __name__ == "__main__":
    end_in_order_at_sigterm()
    with running(_server(port), f"http://127.0.0.1:{port}/ready", log=log) as server:
        print(server.pid, flush=True)
        _in_own_process(sleep)
"""


async def sleep() -> None:
    """Be a load that takes long."""
    await asyncio.sleep(600)


def _server(port: int) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port)]


def test_a_server_is_up_within_the_block_and_gone_after_it_with_its_children(tmp_path: Path) -> None:
    port = free_port()
    with running(_server(port), f"http://127.0.0.1:{port}/ready", log=tmp_path / "log") as server:
        assert server.ready_s > 0
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        assert len(family) == 2
        assert why_not_ready(f"http://127.0.0.1:{port}/ready") == ""
    assert not any(one.is_running() for one in family)
    assert why_not_ready(f"http://127.0.0.1:{port}/ready")


def test_sigterm_ends_what_was_started_and_waits_for_no_load(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TERMINATED)
    command = [sys.executable, str(program), str(free_port()), str(tmp_path / "log")]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with psutil.Popen(command, stdout=subprocess.PIPE, text=True, env=paths) as started:
        server = psutil.Process(int(started.stdout.readline()))
        while len(started.children()) < 2:  # the load's process is yet to come
            time.sleep(0.05)
        family = started.children(recursive=True)
        started.terminate()
        assert started.wait(30) == 143
    assert server in family
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_a_server_that_ends_before_it_is_ready_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no such store'); sys.exit(3)"]
    with (
        pytest.raises(NotReady, match="exit code 3: no such store"),
        running(command, f"http://127.0.0.1:{free_port()}/ready", log=tmp_path / "log"),
    ):
        pass


def test_a_server_that_never_gets_ready_is_given_up_and_ended(tmp_path: Path) -> None:
    port = free_port()
    with (
        pytest.raises(NotReady, match="not ready in time"),
        running(_server(port), f"http://127.0.0.1:{port}/other", log=tmp_path / "log", timeout_s=0.5),
    ):
        pass
    assert why_not_ready(f"http://127.0.0.1:{port}/ready")


def test_what_a_server_says_instead_of_200_is_told(tmp_path: Path) -> None:
    port = free_port()
    with running(_server(port), f"http://127.0.0.1:{port}/ready", log=tmp_path / "log"):
        assert why_not_ready(f"http://127.0.0.1:{port}/other") == "503 loading"


def test_cpu_time_and_the_peak_of_memory_are_seen() -> None:
    at_rest = resident_bytes(os.getpid())
    with Watch(os.getpid(), interval_s=0.01) as watch:
        block = b"x" * (100 << 20)
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        time.sleep(0.05)
        del block
    assert watch.cpu_s is not None
    assert watch.cpu_s >= 0.25
    assert watch.peak_bytes >= at_rest + 80 * 2**20


def test_a_process_that_is_gone_holds_nothing_and_what_it_used_is_not_known() -> None:
    ended = psutil.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    with Watch(ended.pid) as watch:
        pass
    assert (watch.cpu_s, watch.peak_bytes, resident_bytes(ended.pid)) == (None, 0, 0)


def test_a_process_that_ends_while_it_is_watched_has_used_no_time_that_is_known() -> None:
    asked = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with Watch(asked.pid) as watch:
        asked.communicate(b"\n")
    assert watch.cpu_s is None

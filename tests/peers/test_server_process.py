"""Servers as processes: how they end, and what they leave behind."""

import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from peers.server_process import NotStarted, ServerProcess

PATIENCE_S = 60


def server(tmp_path: Path, code: str) -> ServerProcess:
    """Return a process that makes the file `ready` when it is, and runs `code`."""
    ready = tmp_path / "ready"
    begin = f"import pathlib, signal, subprocess, sys, time\nready = pathlib.Path({str(ready)!r})\n"
    return ServerProcess([sys.executable, "-c", begin + textwrap.dedent(code)], os.environ, tmp_path / "log")


def wait(process: ServerProcess, tmp_path: Path) -> float:
    return process.wait_ready((tmp_path / "ready").exists, PATIENCE_S)


def test_a_server_that_ends_well_leaves_nothing(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready.touch(); time.sleep(60)"
    with server(tmp_path, code) as process:
        wait(process, tmp_path)
        process.terminate()
        ending = process.wait_ended(PATIENCE_S)
    assert (ending.exit_code, ending.orphans) == (0, 0)


def test_orphans_are_counted_and_do_not_outlive_the_block(tmp_path: Path) -> None:
    code = """
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); ready.touch(); time.sleep(60)
    """
    with server(tmp_path, code) as process:
        wait(process, tmp_path)
        process.terminate()
        ending = process.wait_ended(PATIENCE_S, orphans_after_s=0.1)
    assert (ending.exit_code, ending.orphans) == (3, 1)
    assert process.family() == []


def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with server(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready.touch(); time.sleep(60)") as process:
        wait(process, tmp_path)
        process.terminate()
        began = time.monotonic()
        assert process.wait_ended(0.2).exit_code is None
        assert time.monotonic() - began < PATIENCE_S
    assert process.family() == []


def test_a_server_that_does_not_come_up_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with server(tmp_path, "sys.exit('no checkpoint')") as process, pytest.raises(NotStarted, match="no checkpoint"):
        wait(process, tmp_path)

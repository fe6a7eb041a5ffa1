"""OpenVINO reports each import to its makers, unless it is kept from that: here it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed: the extra cpu")

LISTEN_FOR_CALLS = """
import sys, time
called = []
sys.addaudithook(lambda event, args: called.append(args) if event in {"socket.getaddrinfo", "socket.connect"} else None)
import service.engine.openvino_engine
time.sleep(0.5)  # it would report in a thread
print(called)
"""


def test_openvino_calls_nobody_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    elsewhere = {name: value for name, value in os.environ.items() if name not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    environ = {**elsewhere, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", LISTEN_FOR_CALLS]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []

"""OpenVINO and NNCF report each import to their makers, unless they are kept from that: here they are."""

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
from importlib.util import find_spec
if find_spec("nncf"):
    import nncf
time.sleep(0.5)  # they would report in threads
print(called)
"""


def test_they_call_nobody_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    elsewhere = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV"}
    }
    environ = {**elsewhere, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", LISTEN_FOR_CALLS]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []

"""An address that cannot be listened on ends the start, with one line that says which."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.server import _listen
from tests.end_to_end.server_process import ROOT


def start(store: Path, host: str, port: int) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"ALNET_STORE": str(store), "ALNET_HOST": host, "ALNET_PORT": str(port)}
    command = [sys.executable, "-m", "service.cli", "serve"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1"])
def test_an_address_that_this_machine_does_not_have_is_named(tmp_path: Path, host: str) -> None:
    done = start(tmp_path, host, 0)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"alnet: ALNET_HOST={host} ALNET_PORT=0: cannot listen there: ")


def test_a_port_that_something_else_listens_on_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = start(tmp_path, "127.0.0.1", port)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"alnet: ALNET_HOST=127.0.0.1 ALNET_PORT={port}: cannot listen there: the port is in use; ")
    assert line.endswith("take another one with --port or ALNET_PORT")


def test_of_a_name_with_several_addresses_those_that_this_machine_has_are_listened_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [lacking, here])
    [listener] = _listen("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"

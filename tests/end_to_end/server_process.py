"""Starts a fake server as a process, and speaks to it over sockets."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.fake_server import HELD
from tests.end_to_end.nursery import Forked

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
"""Importing torch takes long on a busy machine."""


class ServerProcess:
    """One running server: the fake one, or another `module`. `out` and `err` hold what it has written so far."""

    reads_out = True

    def __init__(self, *arguments: str, module: str | None = None, **settings: object) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ALNET_")}
        environ |= {f"ALNET_{name.upper()}": str(value) for name, value in {"port": 0, **settings}.items()}
        self._process = Forked(arguments, environ) if module is None else _process(module, arguments, environ)
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [threading.Thread(target=lambda: self.err.extend(self._process.stderr or ()))]
        if self.reads_out:
            self._readers.append(threading.Thread(target=lambda: self.out.extend(self._process.stdout or ())))
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        until(lambda: self._address() is not None or self._process.poll() is not None)
        address = self._address()
        if address is None:
            raise RuntimeError("the server did not start:\n" + "".join(self.err))
        self.host, self.port = address
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def release(self) -> None:
        """Let the engines end what they have begun, and go on."""
        self._process.send_signal(signal.SIGUSR1)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the engines: nothing that they begin within the block ends within it."""
        self._process.send_signal(signal.SIGUSR2)
        try:
            yield
        finally:
            self.release()

    def exit_code(self) -> int:
        """Wait for the process to end by itself."""
        return self._process.wait(PATIENCE_S)

    def client(self, **headers: str) -> httpx.Client:
        """Return a client with connections of its own.

        The certificates of the system, which nothing here asks for, stay unread: that takes 25 ms.
        """
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, verify=False)

    def get(self, path: str) -> httpx.Response:
        """Return the answer to a request over a connection of its own."""
        with self.client() as client:
            return client.get(path)

    def wait_ready(self) -> None:
        with self.client() as client:
            until(lambda: client.get("/readyz").status_code == 200)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of this name that have these labels.

        Their lines alone are parsed: all 340 take 4 ms, and tests ask again and again.
        """
        lines = [line for line in self.get("/metrics").text.splitlines(keepends=True) if line.startswith(name)]
        families = text_string_to_metric_families("".join(lines))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    @property
    def batches_held(self) -> int:
        """How many batches have begun while the engines were held."""
        return sum(HELD in line for line in self.err)

    @property
    def in_flight(self) -> float:
        """How many uploads the server is receiving or answering."""
        return self.metric("alnet_requests_in_flight")

    @property
    def waiting(self) -> float:
        """How many uploads for retina wait for the engine."""
        return self.metric("alnet_queue_depth", modality="retina")

    @property
    def tiles_run(self) -> float:
        """How many tiles for retina the engine was given."""
        return self.metric("alnet_batch_size_sum", modality="retina")

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection((self.host, self.port), timeout=PATIENCE_S) as connection:
            yield connection

    def _address(self) -> tuple[str, int] | None:
        found = re.search(r"listening on http://([\d.]+):(\d+)", "".join(self.err))
        return None if found is None else (found[1], int(found[2]))


def _process(module: str, arguments: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `condition()` is true."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


class Caller:
    """Sends one request from a thread of its own."""

    def __init__(self, server: ServerProcess, content: bytes, **headers: str) -> None:
        self._client, self._content = server.client(**headers), content
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def answer(self) -> httpx.Response:
        self._thread.join()
        return self._answer

    def _send(self) -> None:
        with self._client as client:
            self._answer = client.post("/segment/retina", content=self._content)


@contextmanager
def busy(server: ServerProcess, image: bytes) -> Iterator[None]:
    """Keep the engine of an idle server busy with one upload: who comes within the block waits, and is run after it."""
    with server.held():
        before = server.batches_held
        first = Caller(server, image)
        until(lambda: server.batches_held > before)
        yield
    assert first.answer().status_code == 200


def request_head(path: str, *headers: str) -> bytes:
    """Return the head of a POST request."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def upload(image: bytes, *headers: str) -> bytes:
    """Return a whole request that has this image segmented as retina."""
    return request_head("/segment/retina", f"Content-Length: {len(image)}", *headers) + image


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received

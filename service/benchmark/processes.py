"""Server processes: started and waited for, watched while they are under load, and ended with all that they started."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psutil

from service.errors import NotReady

GRACE_S = 30.0
"""How long a server may take to end after SIGTERM."""

LAST_WORDS = 3
"""Lines of a server's output that go into the error if it ends before it is ready."""

LOOK_S = 0.05
"""How often a starting server is asked whether it is ready."""

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM ended."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready; `ready_s` is the time from its start to the first 200 of its readiness URL."""

    pid: int
    ready_s: float


@contextmanager
def running(
    command: Sequence[str],
    ready_url: str,
    *,
    log: Path,
    timeout_s: float = 180.0,
) -> Iterator[Started]:
    """Start a server, yield once `ready_url` answers 200, and end it and its descendants after the block.

    Its output goes to the file `log`; it gets this process's environment.

    Raises:
        NotReady: the server ended, or was not ready within `timeout_s`; the message has its last words.
    """
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the caller's own command
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait_ready(process, ready_url, log, started + timeout_s)
        yield Started(process.pid, time.perf_counter() - started)
    finally:
        _end(process)


def end_in_order_at_sigterm() -> None:
    """Let SIGTERM end this process as an error would, but first end what it has started, which is meant too.

    Ctrl-C reaches every process of a terminal, SIGTERM only this one: the server would run on, and nobody would end it.
    """

    def end(*_: object) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def why_not_ready(url: str) -> str:
    """Return what a GET of the URL gives instead of 200; empty if it gives 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{answer.status} {content[:300].decode(errors='replace')}"


def resident_bytes(pid: int) -> int:
    """Return the memory that a process and its descendants hold. Memory that they share counts for each of them."""
    return _resident(_tree(pid))


class Watch:
    """What a process and its descendants use within a `with` block.

    `cpu_s` is their CPU time, None if the process ended before the block did. `peak_bytes` is the most memory that they
    held at once, among samples taken every `interval_s`.
    """

    def __init__(self, pid: int, interval_s: float = 0.05) -> None:
        self.cpu_s: float | None = None
        self.peak_bytes = 0
        self._pid, self._interval_s = pid, interval_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watch")

    def __enter__(self) -> Self:
        self._cpu_before_s = _cpu_s(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        after_s = _cpu_s(self._pid)
        if self._cpu_before_s is not None and after_s is not None:
            self.cpu_s = after_s - self._cpu_before_s

    def _sample(self) -> None:
        processes: list[psutil.Process] = []
        samples = 0
        while True:
            if samples % 20 == 0:  # listing descendants goes through all processes of the machine
                processes = _tree(self._pid)
            self.peak_bytes = max(self.peak_bytes, _resident(processes))
            samples += 1
            if self._is_over.wait(self._interval_s):
                return


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(processes: Sequence[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _cpu_s(pid: int) -> float | None:
    """Return the CPU time of a process and its descendants, with that of ended ones, which their parents have.

    None if the process itself has ended.
    """
    total = 0.0
    if not (processes := _tree(pid)):
        return None
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: Path, until: float) -> None:
    while fault := why_not_ready(url):
        if process.poll() is not None:
            raise NotReady(f"the server ended with exit code {process.returncode}: {_last_words(log)}")
        if time.perf_counter() > until:
            raise NotReady(f"the server was not ready in time; {url} said: {fault}; its output is in {log}")
        time.sleep(LOOK_S)


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-LAST_WORDS:]) or "it wrote nothing"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to end, then kill it and whatever it started and left behind."""
    family = _tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(family, timeout=GRACE_S)

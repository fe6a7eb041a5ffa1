"""One server as a process: started, waited for, stopped as an orchestrator would, and looked at for what is left."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from peers.environments import ROOT

MARK = "PEERS_MARK"
"""The variable by whose value a server's processes are known, whoever their parent is by now."""

LAST_LINES = 2


class NotStarted(Exception):
    """The server ended, or was not ready in time; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended after SIGTERM: exit code (None: it had to be killed), seconds, and processes left behind."""

    exit_code: int | None
    seconds: float
    orphans: int


class ServerProcess:
    """A command that runs within a `with` block; whatever is left of it is killed at the block's end."""

    def __init__(self, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        self._command, self._log = command, log
        self._mark = uuid.uuid4().hex
        self._environ = {**environ, MARK: self._mark}

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- commands of this project
                self._command,
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while family := self.family():
            for process in family:
                _kill(process)
            psutil.wait_procs(family, timeout=1)
            self._process.poll()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def wait_ready(self, is_ready: Callable[[], bool], timeout_s: float = 120.0) -> float:
        """Wait until `is_ready()`; return the seconds that it took.

        Raises:
            NotStarted: it ended, or was not ready in time.
        """
        began = time.monotonic()
        while not is_ready():
            if self._process.poll() is not None:
                raise NotStarted(f"it ended with exit code {self._process.returncode}: {self._last_words()}")
            if time.monotonic() - began > timeout_s:
                raise NotStarted(f"not ready after {timeout_s:g} s: {self._last_words()}")
            time.sleep(0.1)
        return time.monotonic() - began

    def terminate(self) -> None:
        """Send SIGTERM to the process that was started, as orchestrators do."""
        self._process.send_signal(signal.SIGTERM)

    def wait_ended(self, grace_s: float, orphans_after_s: float = 2.0) -> Ending:
        """Wait for the end at most `grace_s`; processes that are there `orphans_after_s` later are orphans."""
        began = time.monotonic()
        try:
            code: int | None = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - began
        if code is None:
            return Ending(None, seconds, 0)
        psutil.wait_procs(self.family(), timeout=orphans_after_s)
        return Ending(code, seconds, len(self.family()))

    def family(self) -> list[psutil.Process]:
        """Return the processes that the server consists of, or has left behind."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self._mark]

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-LAST_LINES:]) or "it wrote nothing"


def end_well_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))


def _mark_of(process: psutil.Process) -> str | None:
    """Return the mark of a living process; None if it has none, or ended."""
    if process.pid == os.getpid():
        return None
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(MARK)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return

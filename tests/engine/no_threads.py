"""A process that may start no thread any more, as at a limit of its container."""

import _thread
import threading

import pytest


def start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a thread fail, until the patch is undone."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    monkeypatch.setattr(_thread, "start_new_thread", fail)

"""A process that may start no thread any more, as at a limit of its container."""

import threading

import pytest


def start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a thread fail, until the patch is undone."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)

"""A process that may start no thread any more, as at a limit of its container, or has no memory for a new one."""

import _thread
import threading

import pytest

from service.engine import own_thread


def start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a thread fail, until the patch is undone."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    monkeypatch.setattr(_thread, "start_new_thread", fail)


def start_threads_that_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every new thread find no memory as it starts, and say nothing, until the patch is undone.

    That is found out soon.
    """

    def die_at_once(*_: object) -> int:
        return 0

    monkeypatch.setattr(_thread, "start_new_thread", die_at_once)
    monkeypatch.setattr(threading, "_start_new_thread", die_at_once)
    monkeypatch.setattr(own_thread, "BEGINS_WITHIN_S", 0.05)

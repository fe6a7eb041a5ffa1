"""The bare engine: a process of its own, which the command alone ends."""

import signal

from service.benchmark.bare import bare_engines
from service.settings import Settings


def test_an_interrupt_is_for_the_command_to_tell() -> None:
    with bare_engines(Settings.read({})) as bare:
        assert bare._pool.submit(signal.raise_signal, signal.SIGINT).exception() is None

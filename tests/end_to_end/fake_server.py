"""The real server with fake engines for retina and cell, as a process: `python -m tests.end_to_end.fake_server`.

Settings come from ALNET_ variables as always. SIGUSR2 holds the engines: a batch that they have begun, or begin, ends
only after SIGUSR1. With the argument `--held` they are so from the start.
"""

import os
import signal
import sys
import threading

from service.api.server import serve
from service.settings import Settings
from tests.doubles import FakeEngine, make_card


def main() -> int:
    gate = threading.Event()
    if "--held" not in sys.argv:
        gate.set()
    signal.signal(signal.SIGUSR1, lambda number, frame: gate.set())
    signal.signal(signal.SIGUSR2, lambda number, frame: gate.clear())
    engines = {modality: FakeEngine(make_card(modality), gate=gate) for modality in ("retina", "cell")}
    return serve(Settings.read(os.environ), engines)


if __name__ == "__main__":
    sys.exit(main())

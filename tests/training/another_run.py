"""A run in a process of its own, which only holds its folder, and has started a loading process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.training.run_lock import held


@contextmanager
def another_run(folder: Path) -> Iterator[tuple[int, int]]:
    """Hold the folder in another process; yield the ids of that process and of its child."""
    command = [sys.executable, "-m", "tests.training.another_run", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        loader = int(process.stdout.readline())
        try:
            yield process.pid, loader
        finally:
            process.kill()
            os.kill(loader, signal.SIGKILL)


if __name__ == "__main__":
    with held(Path(sys.argv[1]), print):
        if loader := os.fork():
            print(loader, flush=True)
        time.sleep(120)

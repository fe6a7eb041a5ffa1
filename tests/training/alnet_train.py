"""Runs `alnet train` in a process of its own, on images so small and so few that it takes seconds."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from service.store.card import Card
from service.store.checkpoint import Checkpoint
from service.training.run_folder import EPOCHS, RunFolder

OPTIONS = (
    *("--data", "drawn:retina:8", "--input", "fit:64x64", "--crop", "64", "--batch-size", "2"),
    *("--steps-per-epoch", "2", "--epochs", "4", "--precision", "float32", "--learning-rate", "0.001"),
)


ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
"""Each line at once; one thread, which is quicker for so little, and beside other work."""


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@dataclass(frozen=True, slots=True)
class Run:
    """Where one run and its own model store lie."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "run"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def command(self) -> list[str]:
        where = ("--run-folder", str(self.path), "--store", str(self.store))
        return [*self.launcher, "-m", "service.cli", "train", *OPTIONS, *where]

    @property
    def launcher(self) -> list[str]:
        return [sys.executable]

    def epochs(self) -> list[dict[str, str]]:
        """Return the lines of epochs.csv, without the time they took."""
        with (self.path / EPOCHS).open(newline="") as file:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]

    def card(self) -> Card:
        result = RunFolder(self.path).result()
        assert result is not None
        return Checkpoint.read(Path(result.checkpoint)).card


class RunOfTwo(Run):
    """A run of two processes that torchrun starts."""

    @property
    def launcher(self) -> list[str]:
        return TORCHRUN


def train(run: Run, *extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `extra` options win."""
    return subprocess.run(
        [*run.command, *extra], capture_output=True, text=True, check=False, timeout=600, env=ENVIRONMENT
    )


def train_until(run: Run, line: str, number: signal.Signals) -> tuple[int, str]:
    """Start the command, send it the signal when it has said a line that begins so; return exit code and stderr."""
    with subprocess.Popen(
        run.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - no other thread runs here
    ) as process:
        assert process.stdout is not None
        for said in process.stdout:
            if said.startswith(line):
                process.send_signal(number)
                break
        _, complaint = process.communicate(timeout=300)
    return process.returncode, complaint


def _heed_interrupts() -> None:
    """Undo what a shell does to commands that it starts in the background: they inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Where and when something was measured: without it a millisecond means nothing."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from service.training.code_version import code_commit


class Machine(BaseModel):
    """The code, the hardware and the libraries that gave a measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str
    commit: str
    cpu: str
    cores: int
    threads: int
    gpu: str | None
    torch: str
    python: str

    def describe(self) -> str:
        """Return it all in one line of Markdown."""
        hardware = f"{self.cpu}, {self.cores} cores, {self.threads} threads" + (f"; {self.gpu}" if self.gpu else "")
        return f"{self.date}, commit `{self.commit}`, {hardware}; PyTorch {self.torch}, Python {self.python}"


def this_machine() -> Machine:
    """Return what this process runs on, now. `cores` are those that the process may use, `threads` are PyTorch's."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=code_commit(),
        cpu=cpu_model(Path("/proc/cpuinfo")),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        torch=torch.__version__,
        python=platform.python_version(),
    )


def cpu_model(cpuinfo: Path) -> str:
    """Return the CPU's name as Linux gives it in `cpuinfo`; elsewhere what Python knows, at least the architecture."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

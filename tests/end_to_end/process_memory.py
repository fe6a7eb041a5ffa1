"""How much memory another process has, and has had at its most. Linux only, as /proc is."""

import re
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Return what is resident now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Return the most that was resident at once since `reset_peak`, or since the process began."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Let the peak begin anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024

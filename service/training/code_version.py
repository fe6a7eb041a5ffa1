"""Which code is running, for the card: a figure names the commit that gave it."""

import subprocess
from pathlib import Path


def code_commit() -> str:
    """Return the commit of the running code, with "-dirty" if it was changed since, or "unknown" outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy may lie in another's checkout
        return _git("describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - ours

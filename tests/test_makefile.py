"""The Makefile sets up `.venv`, also after an attempt that failed halfway."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]

PYTHON = """#!/bin/sh
case "$2" in
venv) mkdir -p .venv/bin && ln -sf ../../python .venv/bin/python && [ -e ensurepip ] && touch .venv/bin/pip ;;
pip) [ -e .venv/bin/pip ] ;;
esac
"""
"""Its environments lack pip, as those of a Debian without python3-venv do, until there is a file `ensurepip`."""


def make(folder: Path) -> int:
    """Install what serving needs with the Python in `folder`; return make's exit code."""
    command = ["make", ".venv/.installed-serve", "PYTHON=./python"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def test_an_environment_that_was_left_without_pip_is_made_again(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    assert make(tmp_path) != 0
    (tmp_path / "ensurepip").touch()
    assert make(tmp_path) == 0

"""One virtual environment for each server, in peers/.venvs: this project and what peers/requirements/NAME.txt pins."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENVS = ROOT / "peers" / ".venvs"
REQUIREMENTS = ROOT / "peers" / "requirements"
LAST_LINES = 3
PROGRESS = ("Collecting", "Downloading", "Installing collected", "Successfully", "ERROR")
"""How the lines of pip's output begin that say how far it is."""


class NotInstalled(Exception):
    """A server's virtual environment could not be made; the message has pip's last words."""


def python_of(name: str) -> Path:
    """Return the interpreter of the environment of this name, whether it is there or not."""
    return VENVS / name / "bin" / "python"


def pinned(requirements: str) -> dict[str, str]:
    """Return version by project name, normalised as PyPI does, of the `name==version` lines in a requirements file."""
    pins = (line.split("#")[0].strip().partition("==") for line in requirements.splitlines())
    return {_normalised(name.split("[")[0]): version for name, _, version in pins if version}


def constraints_beside(constraints: str, requirements: str) -> str:
    """Return the project's constraints without the lines whose projects the requirements pin themselves."""
    own = pinned(requirements)
    lines = [line for line in constraints.splitlines() if not pinned(line).keys() & own.keys()]
    return "".join(f"{line}\n" for line in lines)


def install(name: str) -> Path:
    """Make the environment, unless it is there and nothing that it is made of has changed; return its interpreter.

    How far it is goes to this process's output.

    Raises:
        NotInstalled: it could not be made.
    """
    python = python_of(name)
    requirements = REQUIREMENTS / f"{name}.txt"
    constraints = (ROOT / "constraints.txt").read_text()
    ingredients = [constraints, requirements.read_text(), (ROOT / "pyproject.toml").read_text()]
    digest = hashlib.sha256("".join(ingredients).encode()).hexdigest()
    stamp = VENVS / name / ".installed"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"making the environment of {name}", flush=True)
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(VENVS / name)])
    own = VENVS / name / "constraints.txt"
    own.write_text(constraints_beside(constraints, requirements.read_text()))
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    _run([*pip, "-c", str(own), "-r", str(requirements), "--editable", f"{ROOT}[cpu]"])
    stamp.write_text(digest)
    return python


def _run(command: list[str]) -> None:
    """Run a command and show how far it is. Raises NotInstalled if it fails."""
    with subprocess.Popen(  # noqa: S603 -- commands of this file
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        last: list[str] = []
        for line in process.stdout or ():
            if line.lstrip().startswith(PROGRESS):
                print(f"  {line.strip()[:100]}", flush=True)
            last = [*last, line.strip()][-LAST_LINES:]
    if process.returncode:
        raise NotInstalled(" / ".join(last))


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()

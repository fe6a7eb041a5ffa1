"""What the server writes, in a process of its own: logging is configured for the whole of one."""

import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

REPOSITORY = Path(__file__).parents[2]
CODE = (
    "import logging\nfrom service.api import logs\nlogs.configure('info')\n"
    "logging.getLogger('service').info('hello')\n"
    "for number in range(3):\n    logs.access.info('line %d', number)\n"
)
UTC_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


def _log_to(stdout: int | IO[bytes]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=REPOSITORY,
        env={"TZ": "Asia/Kathmandu", "PYTHONPATH": str(REPOSITORY)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_the_servers_own_log_has_utc_with_milliseconds() -> None:
    done = _log_to(subprocess.PIPE)
    assert re.fullmatch(rf"{UTC_TIME} INFO service: hello\n", done.stderr)
    assert done.stdout == "line 0\nline 1\nline 2\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_stdout_that_takes_nothing_is_told_once() -> None:
    with Path("/dev/full").open("wb") as full:
        lines = _log_to(full).stderr.splitlines()
    assert len([line for line in lines if "access lines are lost" in line]) == 1
    assert not [line for line in lines if "Traceback" in line or "Logging error" in line]

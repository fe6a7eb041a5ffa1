"""What Ctrl-C makes of a command: a line on what is left, and exit code 130."""

import subprocess
import sys

import pytest

from service.commands.interruption import interruptible

PROGRAM = """
import typer
from service import cli
from service.commands.interruption import interruptible

@cli.app.command("wait")
def wait() -> None:
    with interruptible("half of it is done"):
        raise KeyboardInterrupt

cli.main(["wait"])
"""


def test_it_is_told_once_and_with_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "alnet: interrupted; half of it is done\n")


def test_a_process_that_does_not_speak_ends_alike_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, interruptible("half of it is done", is_told=lambda: False):
        raise KeyboardInterrupt
    assert (ended.value.code, capsys.readouterr().err) == (130, "")


def test_any_other_error_goes_its_way() -> None:
    with pytest.raises(ValueError, match="of another kind"), interruptible("half of it is done"):
        raise ValueError("of another kind")

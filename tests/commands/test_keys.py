"""alnet keys: new, list, revoke."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.api.key_file import read_keys
from service.cli import main
from service.commands.keys import app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys"


def _run(*arguments: str, file: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--file", str(file)])


def test_new_prints_the_key_alone_on_stdout_and_keeps_its_hash(file: Path) -> None:
    result = _run("new", "ward-3", file=file)
    assert result.exit_code == 0
    assert re.fullmatch(r"alnet_[A-Za-z0-9_-]{43}\n", result.stdout)
    assert "cannot be shown again" in result.stderr
    assert result.stdout.strip() not in result.stderr + file.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no device that is always full")
def test_a_key_that_nobody_got_to_see_is_none(file: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "keys", "new", "ward-3", "--file", str(file)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("alnet: [Errno 28] No space left on device; no key was made: 'stdout'\n")
    assert read_keys(file) == []


def test_list_shows_names_and_days_and_nothing_that_is_secret(file: Path) -> None:
    keys = [_run("new", name, file=file).stdout.strip() for name in ("ward-3", "a")]
    today = datetime.now(UTC).date().isoformat()
    result = _run("list", file=file)
    assert result.stdout.splitlines() == ["NAME    CREATED", f"ward-3  {today}", f"a       {today}"]
    assert all(key not in result.stdout for key in keys)


def test_revoke_takes_one_key_out(file: Path) -> None:
    for name in ("a", "b"):
        _run("new", name, file=file)
    result = _run("revoke", "a", file=file)
    assert (result.exit_code, result.stdout) == (0, "revoked a\n")
    assert [key.name for key in read_keys(file)] == ["b"]
    _run("revoke", "b", file=file)
    assert _run("list", file=file).stdout == f"no keys in {file}\n"


def test_the_file_is_taken_from_the_environment(file: Path) -> None:
    result = CliRunner().invoke(app, ["new", "a"], env={"ALNET_API_KEYS": str(file)})
    assert result.exit_code == 0
    assert [key.name for key in read_keys(file)] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["new", "a"], "there is a key 'a' already"),
        (["new", "two words"], "a key's name is"),
        (["revoke", "b"], "has no key 'b'"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    _run("new", "a", file=file)
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments, "--file", str(file)])
    complained = capsys.readouterr().err
    assert ended.value.code == 2
    assert complained.startswith("alnet: ")
    assert complaint in complained
    assert complained.count("\n") == 1


@pytest.mark.parametrize("command", [["list"], ["revoke", "a"]])
def test_a_file_that_is_missing_is_one_line_too(
    file: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["keys", *command, "--file", str(file)])
    assert ended.value.code == 2
    assert f"cannot read the API keys in {file}: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["new", "a"], ["revoke", "a"]])
def test_a_folder_that_is_missing_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "file").touch()
    for where in (tmp_path / "keys", tmp_path / "file"):
        with pytest.raises(SystemExit) as ended:
            main(["keys", *command, "--file", str(where / "api-keys")])
        assert ended.value.code == 2
        expected = f"alnet: {where} is no folder that could hold the API keys; make it first, with mode 700\n"
        assert capsys.readouterr().err == expected

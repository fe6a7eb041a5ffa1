"""The command line as a whole: help that teaches, errors of one line, exit codes."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperCommand
from typer.main import get_command
from typer.testing import CliRunner

from service.cli import app, main
from service.commands.benchmark_serve import KEY_VARIABLE
from service.settings import Settings
from tests.checkpoints import publish_tiny

COMMANDS = (
    "serve",
    "train",
    "pretrain",
    "evaluate",
    "robustness",
    "quantize",
    "segment",
    "reproduce",
    "benchmark",
    "models",
    "keys",
)

PICTURES = Path(__file__).parents[2] / "docs" / "images"


def _alnet(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a call."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def _help(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def _commands() -> dict[str, TyperCommand]:
    """Return every command by its words: "serve", "models list"."""
    found: dict[str, TyperCommand] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        parts = command.commands.items() if hasattr(command, "commands") else [("", command)]
        found |= {f"{name} {part}".strip(): one for part, one in parts}
    return found


def test_no_paragraph_of_help_is_broken_where_the_source_is() -> None:
    for name, command in _commands().items():
        assert command.help, name
        assert [part for part in command.help.split("\n\n") if "\n" in part] == [], name


def test_help_lists_every_command() -> None:
    text = _help()
    for command in COMMANDS:
        assert command in text
    assert "Not a medical device" in text


@pytest.mark.parametrize("command", COMMANDS[:5])
def test_every_option_says_what_it_does(command: str) -> None:
    group = get_command(app)
    found = group.commands[command].params  # type: ignore[attr-defined]
    assert [option.name for option in found if not option.help] == []
    text = _help(command)
    for option in found:
        assert any(name in text for name in [*option.opts, (option.name or "").upper()]), option.name


INTERRUPTS = {
    "typer": "raise KeyboardInterrupt",
    "torch": "raise KeyboardInterrupt",
    "numpy": "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    raise AttributeError",
}
"""What stands for a library that Ctrl-C meets while it is imported; some make another error of it."""


@pytest.mark.parametrize("library", INTERRUPTS)
def test_an_interrupt_while_libraries_are_imported_is_one_line(library: str, tmp_path: Path) -> None:
    (tmp_path / f"{library}.py").write_text(INTERRUPTS[library])
    command = [sys.executable, "-m", "service.cli", "train", "--data", "drawn:retina:8", "--run", str(tmp_path / "run")]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "alnet: interrupted\n")


def test_the_help_of_serve_lists_every_setting() -> None:
    text = _help("serve")
    for name in Settings.model_fields:
        assert f"ALNET_{name.upper()}" in text


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("train", "--data", "nowhere"), 2, "alnet: --modality is missing"),
        (("train", "--data", "nowhere", "--modality", "own"), 1, "alnet: nowhere"),
        (("segment", "nowhere.png", "--modality", "retina", "--out", "masks"), 2, "alnet: nowhere.png does not exist"),
        (("evaluate", "drawn:retina", "--modality", "liver", "--store", "."), 1, "alnet: no modality 'liver'"),
        (("models", "show", "liver", "--store", "."), 1, "alnet: no modality 'liver'"),
    ],
    ids=["config", "dataset", "parameter", "evaluate", "models"],
)
def test_an_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    ended, said, complained = _alnet(capsys, *arguments)
    assert (ended, said) == (code, "")
    assert complained.startswith(complaint)
    assert complained.count("\n") == 1


def test_an_error_about_a_name_that_would_steer_a_terminal_is_one_line_that_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended, _, complained = _alnet(capsys, "segment", "no\x1b[2Jwhere.png", "--modality", "retina", "--out", "masks")
    assert (ended, complained) == (2, "alnet: no\\x1b[2Jwhere.png does not exist\n")


@pytest.mark.parametrize(
    "command",
    [
        ["reproduce", "--data", "drawn:retina:6"],
        ["evaluate", "nowhere", "--modality", "retina"],
        ["robustness", "nowhere", "--modality", "retina"],
        *(["benchmark", what] for what in ("networks", "engines", "roofline", "serve")),
    ],
    ids=lambda command: command[-1],
)
def test_results_do_not_go_to_the_current_folder_for_want_of_a_name(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "alnet: --out is empty; name a folder, or leave it out\n"
    assert _alnet(capsys, *command, "--out", "") == (2, "", refusal)


def test_a_file_in_the_way_is_one_line_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = tmp_path / "file" / "run"
    ended, _, complained = _alnet(capsys, "train", "--data", "drawn:skin:3", "--input", "fit:32x32", "--run", run)
    assert (ended, complained) == (2, f"alnet: {run} is a file, or lies in one; pick a folder with --run\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there every user has a name")
def test_a_user_without_a_name_gets_one_for_libraries_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert getpass.getuser() == f"user-{os.getuid()}"


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
def test_a_closed_stderr_ends_no_command(closed: str, tmp_path: Path) -> None:
    """The pattern is looked at once the images are checked, with a progress bar where there is a terminal."""
    train = ("-m", "service.cli", "train", "--data", "drawn:retina:8", "--case-pattern", "(", "--input", "fit:32x32")
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *train, "--run", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_home_that_cannot_be_written_is_not_told_of(tmp_path: Path) -> None:
    """Matplotlib would keep its fonts there."""
    (tmp_path / "file").touch()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG"))}
    train = ("-m", "service.cli", "train", "--data", "drawn:retina:8", "--case-pattern", "(", "--input", "fit:32x32")
    done = subprocess.run(
        [sys.executable, *train, "--run", str(tmp_path / "run")],
        env=own | {"HOME": str(tmp_path / "file" / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("alnet: case pattern '('")
    assert done.stderr.count("\n") == 1


def test_a_wrong_option_is_refused_before_torch_is_loaded() -> None:
    done = _python("-m", "service.cli", "train", "--data", "drawn:retina", "--epochs", "-1")
    assert done.returncode == 2
    assert done.stderr == "alnet: --epochs -1: Input should be greater than or equal to 0\n"
    program = "import sys; from service.cli import app; app(['train', '--help'], standalone_mode=False)"
    done = _python("-c", f"{program}; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_a_wrong_network_option_is_refused_before_training_libraries_are_loaded(tmp_path: Path) -> None:
    refused = _train_without("monai", tmp_path / "run", "--network-option", "colour=1")
    assert refused.stderr.startswith("alnet: al-net does not take this configuration: it has no option 'colour'")


def test_uneven_nodes_are_refused_before_torch_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    refused = _train_without("torch", tmp_path / "run")
    assert refused.stderr == "alnet: 2 of 3 processes are on this node: start as many on every node\n"


def _train_without(library: str, run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what `alnet train` does, wrongly called, where that library is not installed; nothing is left of it."""
    command = ["train", "--data", "drawn:retina:8", "--run", str(run), *arguments]
    done = _python("-c", f"import sys; sys.modules[{library!r}] = None; from service.cli import main; main({command})")
    assert (done.returncode, run.exists()) == (2, False)
    return done


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


@pytest.mark.parametrize("option", ["host", "store"])
def test_an_empty_option_of_serve_is_an_error_of_one_line(option: str) -> None:
    program = f"from service.cli import main; main(['serve', '--{option}', ''])"
    done = _python("-c", program)
    assert done.returncode == 2
    assert done.stderr == f"alnet: ALNET_{option.upper()} is set, but empty; give it a value or unset it\n"


@pytest.mark.parametrize("name", _commands())
def test_settings_alone_read_the_environment(name: str) -> None:
    found = {option.name: option.envvar for option in _commands()[name].params if option.envvar}
    assert found == ({"api_key": KEY_VARIABLE} if name == "benchmark serve" else {})  # a caller's secret, no setting


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["models", "list"], "ALNET_STORE"),
        (["evaluate", "drawn:skin", "--modality", "skin"], "ALNET_STORE"),
        (["segment", str(PICTURES), "--modality", "skin", "--out", "masks"], "ALNET_STORE"),
        (["keys", "list"], "ALNET_API_KEYS"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_empty_variable_is_refused_as_by_the_server_and_an_option_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "")
    refusal = f"alnet: {variable} is set, but empty; give it a value or unset it\n"
    option = "--store" if variable == "ALNET_STORE" else "--file"
    assert _alnet(capsys, *command) == (2, "", refusal)
    assert _alnet(capsys, *command, option, "") == (2, "", refusal)
    assert _alnet(capsys, *command, option, "nowhere")[2] != refusal
    assert _alnet(capsys, *command, "--help")[0] == 0


def test_a_key_file_that_nobody_named_is_asked_for_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, complained = _alnet(capsys, "keys", "list")
    assert (code, said) == (2, "")
    assert complained.startswith("alnet: --file is missing")
    assert complained.count("\n") == 1


@pytest.mark.parametrize(
    ("library", "command"), [("uvicorn", ["serve"]), ("monai", ["train", "--data", "drawn:skin", "--run", "RUN"])]
)
def test_a_missing_extra_is_named_in_one_line(library: str, command: list[str], tmp_path: Path) -> None:
    arguments = [str(tmp_path) if argument == "RUN" else argument for argument in command]
    code = f"import sys; sys.modules[{library!r}] = None; from service.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"alnet: {library} is not installed; serving needs the extra alnet-service[serve]" in done.stderr


@pytest.mark.parametrize("command", ["engines", "roofline"])
def test_who_only_serves_or_only_trains_can_measure_the_network(command: str, tmp_path: Path) -> None:
    extras = ["aiohttp", "fastapi", "lightning", "lightning_fabric", "matplotlib", "monai", "nncf", "psutil", "uvicorn"]
    arguments = ["benchmark", command, "--store", str(tmp_path)]
    code = f"import sys; sys.modules |= dict.fromkeys({extras}); from service.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("alnet: no modality 'cell' in the model store")


@pytest.mark.parametrize("library", ["CUDA out of memory. Tried to allocate 2 MiB", "another fault"])
def test_a_lack_of_memory_is_one_line_and_no_other_fault_is(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError(f"{library}\nGPU 0 has a total capacity of 139.8 GiB.")

    publish_tiny(tmp_path)
    monkeypatch.setattr("service.engine.choosing.loading", fail)
    with pytest.raises((SystemExit, RuntimeError)) as ended:
        main(["evaluate", "drawn:retina:2", "--modality", "retina", "--store", str(tmp_path)])
    if library == "another fault":
        assert ended.type is RuntimeError
        return
    assert str(ended.value) == "1"
    advice = "close what else uses that memory, or use another device"
    assert capsys.readouterr().err == f"alnet: RuntimeError: {library}; {advice}\n"


def test_help_is_there_where_the_terminal_has_nothing_but_ascii() -> None:
    command = [sys.executable, "-m", "service.cli", "train", "--help"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False, timeout=120)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--publish" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["models", "show", "skin"], "no modality 'skin' in the model store; it has: none"),
        (["models", "verify"], "nothing to verify: no checkpoint of any modality"),
    ],
)
def test_a_store_that_lacks_a_modality_is_named_in_full(
    arguments: list[str],
    fault: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = f"alnet: {fault}. The store is {tmp_path / 'here'}; --store or ALNET_STORE names another one\n"
    assert _alnet(capsys, *arguments, "--store", "here") == (1, "", told)

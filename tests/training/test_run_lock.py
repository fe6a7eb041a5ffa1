"""A run folder is held by one process, and free again however that ends."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.reproduction.experiment import Experiment, run_experiment
from service.reproduction.paper import PAPER_NETWORKS
from service.training.config import Config, configure
from service.training.job import run as run_job
from service.training.pretraining import pretrain
from service.training.run_lock import LOCK, held
from tests.training.another_run import another_run

GRID = InputPolicy(kind="stretch", height=32, width=32)


def test_a_second_run_in_a_folder_is_refused_until_the_first_ends_and_writes_nothing(tmp_path: Path) -> None:
    config = configure("drawn:retina:6", "retina", "quick", {"input": GRID, "crop_px": None})
    busy = tmp_path / "run"
    with another_run(busy):
        with pytest.raises(BadConfig, match=r"run is in use by another run; wait for it or pick .* with --run"):
            run_job(config, busy, None, print)
        with pytest.raises(BadConfig, match="in use by another run"):
            pretrain(config, busy, tmp_path / "weights.pth", print)
        assert [path.name for path in busy.iterdir()] == [LOCK]
    with held(busy, print):
        (busy / "state").touch()
    assert (busy / LOCK).exists()


def test_networks_are_not_compared_twice_at_once_in_one_folder(tmp_path: Path) -> None:
    recipe = configure("drawn:retina:6", "retina", "quick", {"input": GRID})
    experiment = Experiment(networks=PAPER_NETWORKS[:1], recipe=recipe, folds=None, folder=tmp_path)
    with another_run(tmp_path), pytest.raises(BadConfig, match=r"in use by another run; .* with --out"):
        next(run_experiment(experiment, print))


def test_a_run_that_was_killed_goes_on_at_once_though_its_loading_processes_live(tmp_path: Path) -> None:
    with another_run(tmp_path / "run") as (run, loader):
        os.kill(run, signal.SIGKILL)
        os.waitid(os.P_PID, run, os.WEXITED | os.WNOWAIT)
        os.kill(loader, 0)
        with held(tmp_path / "run", print):
            (tmp_path / "run" / "state").touch()


def test_what_a_refused_run_made_is_removed_and_what_lay_there_stays(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="refused"), held(tmp_path / "new" / "run", print):
        raise BadConfig("refused")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "note").touch()
    with held(tmp_path / "old", print):
        assert (tmp_path / "old" / LOCK).exists()
    assert (tmp_path / "old" / "note").exists()


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_file_in_the_folders_place_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BadConfig, match=r"is a file, or lies in one; pick a folder with --out$"),
        held(tmp_path / name, print, option="--out"),
    ):
        pass


def test_a_folder_whose_path_is_no_utf8_is_refused_before_it_is_made(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/K\xf6ln/run"))
    refused = pytest.raises(BadConfig, match=r"K\\udcf6ln/run' is no UTF-8; .* another folder with --run")
    with refused, held(folder, print):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_on_a_file_that_its_last_holder_removed_meanwhile_holds_nothing(tmp_path: Path) -> None:
    locked: list[int] = []

    def lock_late(file: BinaryIO) -> None:
        if not locked:
            (tmp_path / LOCK).unlink()
        locked.append(file.fileno())

    with held(tmp_path, print, lock=lock_late):
        assert (tmp_path / LOCK).exists()
        assert len(locked) == 2


@pytest.mark.parametrize("step", ["access", "open", "stat"])
def test_a_folder_that_its_last_holder_removes_between_two_steps_is_made_anew(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, removed, locked = tmp_path / "above" / "run", list[Path](), list[BinaryIO]()

    def remove(*_: object) -> None:
        if not removed:
            removed.append(folder)
            shutil.rmtree(folder.parent)

    owner, name = (os, "access") if step == "access" else (Path, step)
    plain = getattr(owner, name)

    def late(path: Path, *arguments: object, **options: object) -> object:
        if path == (folder if step == "access" else folder / LOCK) and (step != "stat" or locked):
            remove()
        return plain(path, *arguments, **options)

    monkeypatch.setattr(owner, name, late)
    with held(folder, print, lock=locked.append):
        assert removed
        assert os.path.samestat(os.fstat(locked[-1].fileno()), (folder / LOCK).lstat())


def test_a_lock_file_that_is_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "gone" / LOCK)
    with pytest.raises(FileNotFoundError), held(tmp_path, print):
        pass


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_has_is_known_by_either_error_that_systems_give(number: int, tmp_path: Path) -> None:
    def taken(_: BinaryIO) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(BadConfig, match="in use by another run"), held(tmp_path, print, lock=taken):
        pass


def test_a_folder_that_cannot_be_written_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(_: BinaryIO) -> None:
        raise AssertionError("it was locked")

    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write everywhere
    with held(tmp_path, print, lock=locked):
        assert not list(tmp_path.iterdir())


def test_another_user_may_hold_the_folder_next_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with held(tmp_path, print):
            assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_file_system_without_locks_is_said_and_a_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []

    def no_locks(_: BinaryIO) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with held(tmp_path / "run", said.append, lock=no_locks):
        (tmp_path / "run" / "state").touch()
    assert said == [f"caution: {tmp_path / 'run'} cannot be locked (No locks available); start no other run in it"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_made_is_told_with_advice(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))  # root may make them everywhere

    monkeypatch.setattr(Path, "mkdir", refuse)
    refused = pytest.raises(OSError, match="run cannot be made there; pick another folder with --out")
    with refused, held(tmp_path / "run", print, option="--out"):
        pass


@pytest.mark.parametrize(
    "job",
    [
        lambda config, run: run_job(config, run, None, print),
        lambda config, run: pretrain(config, run, run / "weights.pth", print),
    ],
    ids=["train", "pretrain"],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_data_are_read(
    job: Callable[[Config, Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = configure("no data", "retina", "quick", {"input": GRID, "crop_px": None}), tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != run)  # root may write everywhere
    with pytest.raises(PermissionError, match="mend that, or pick another folder with --run; nothing was trained"):
        job(config, run)
    (run / "samples").mkdir()
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != run / "samples")
    with pytest.raises(PermissionError, match=r"nothing was trained: .*samples'"):
        job(config, run)

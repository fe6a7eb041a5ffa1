"""One folder, one run: two that wrote there at once would go on with each other's split, weights and scores."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from service.errors import BadConfig

LOCK = ".lock"

Lock = Callable[[BinaryIO], None]
"""Locks a file for this process until it is closed, or raises OSError."""


def lock_file(file: BinaryIO) -> None:
    """Lock the file for this process alone, or raise OSError.

    Unlike flock's, this lock is not inherited by child processes. When a run is killed, its loading processes live on
    for seconds, but the same command must be able to go on at once.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "no locks on this system")
    import fcntl  # noqa: PLC0415 - Windows has none

    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def held(folder: Path, say: Callable[[str], None], *, option: str = "--run", lock: Lock = lock_file) -> Iterator[None]:
    """Hold `folder`, which is created if missing, against every other process that asks for it.

    It is free again when the process ends, however it ends. A folder that is still empty then is removed again, with
    those above it that were created for it. A folder that cannot be written is not held, since no run can write there.
    Where the file system has no locks, `say` is told that nothing keeps others out.

    Raises:
        BadConfig: another run holds it, it is no folder, or its path is not UTF-8; the message names `option` to give
            another.
        OSError: it cannot be created, or holds a lock file that another user has closed to this one.
    """
    made = [path for path in folder.parents if not path.exists()]
    _make(folder, option)
    if not os.access(folder, os.W_OK) and folder.exists():  # one that another run removed in between is made anew
        yield
        return
    file = _locked(folder, say, option, lock)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is gone by now, or something else lies beside it
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                for path in (folder, *made):
                    path.rmdir()
        file.close()  # only now: whoever has opened the removed file sees that it is gone once it gets the lock


def _make(folder: Path, option: str) -> None:
    if not _is_utf8(folder):  # safetensors opens no other paths: the run would fail once all is trained
        raise BadConfig(f"{str(folder)!a} is no UTF-8; rename it, or pick another folder with {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadConfig(f"{folder} is a file, or lies in one; pick a folder with {option}") from error
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        advice = f"{folder} cannot be made there; pick another folder with {option}"
        raise OSError(error.errno, f"{error.strerror}: {advice}", error.filename) from error


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(path: Path) -> BinaryIO:
    """Open the lock file so that every user can open it next: who may write is up to the folder's mode.

    The folder is created anew as often as its last holder removes it in between.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:
            if path.is_symlink():  # to where nothing can be created
                raise
            continue
        with contextlib.suppress(OSError):  # it is another user's, who has done so
            path.chmod(0o666)
        return file


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether the open file is the one that lies there now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _locked(folder: Path, say: Callable[[str], None], option: str, lock: Lock) -> BinaryIO:
    """Return the folder's lock file, locked until it is closed."""
    path = folder / LOCK
    while True:
        file = _opened(path)
        try:
            lock(file)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                file.close()
                what = f"{folder} is in use by another run"
                raise BadConfig(f"{what}; wait for it or pick another folder with {option}") from error
            say(f"caution: {folder} cannot be locked ({error.strerror}); start no other run in it")
            return file
        if _is_at(file, path):
            return file
        file.close()  # its last holder removed it in between

"""One folder, one run: two that write there at once would go on with each other's split, weights and scores."""

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

    Unlike flock's, this lock is not inherited: loading processes live on for seconds when their run is killed, and the
    same command is to go on at once.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "no locks on this system")
    import fcntl  # noqa: PLC0415 - Windows has none

    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def held(folder: Path, say: Callable[[str], None], *, option: str = "--run", lock: Lock = lock_file) -> Iterator[None]:
    """Hold `folder`, which is made if it is not there, against every other process that asks for it.

    It is free again when the process ends, however it ends. A folder in which nothing came to lie is removed again,
    with those above it that were made for it. One that cannot be written is not held, since no run can write there;
    where the file system knows no locks, `say` is told that nothing keeps others out.

    Raises:
        BadConfig: another run holds it, it is no folder, or its path is no UTF-8; another can be given by `option`.
        OSError: it cannot be made, or holds a lock file of somebody else's.
    """
    made = [path for path in folder.parents if not path.exists()]
    _make(folder, option)
    if not os.access(folder, os.W_OK) and folder.exists():  # what another run removed in between is made anew
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
        file.close()  # only now: whoever has opened the file that is gone sees that when it has the lock


def _make(folder: Path, option: str) -> None:
    if not _is_utf8(folder):  # safetensors opens no other files: the run would end once all is trained
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
    """Open the lock file so that every user can, whose turn it may be next: the folder's mode says who may write.

    Its folder is made anew as often as its last holder removes it in between.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:
            if path.is_symlink():  # to where nothing can be made
                raise
            continue
        with contextlib.suppress(OSError):  # it is somebody else's, who has done so
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

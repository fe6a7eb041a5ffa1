"""Writing files so that a power cut leaves the old state or the new one, and never half of either."""

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_MODE = 0o644
"""Readable by every user, whatever the umask."""

DRAFT = ".draft-"
"""How the name of what is not whole yet begins: the file's own name may be as long as the system allows."""

STALE_AFTER_S = 24 * 3600
"""A draft that old has nobody any more who would make it whole."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says of a full disk; of which one it does not, where a file was open already."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Let the error of a full disk that names no file name the `place` that is written to: which disk is meant."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet, to the disk itself; FileExistsError if it does."""
    with path.open("xb") as file:
        give_mode(file.fileno(), FILE_MODE)
        _fill(file.fileno(), content)


def give_mode(made: int | Path, mode: int) -> None:
    """Give a file or folder that this process has just made this mode, by which others can read it.

    A file system that keeps no modes of its own refuses that to whoever does not own the whole of it, as a share of
    Windows's that root has mounted; there the mount says who may read.
    """
    try:
        os.chmod(made, mode)  # noqa: PTH101 - it may be a descriptor
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise


def replace(path: Path, content: bytes, *, mode: int | None = FILE_MODE, owner: tuple[int, int] | None = None) -> None:
    """Give the file at `path` this `content`, whether it exists or not: readers see the old content or the new.

    It gets `mode` (None: what the umask leaves, as any new file), and `owner` (user and group) if one is given, before
    there is anything in it. A mode that keeps others out must be had.
    """
    descriptor, draft = _open_draft(path.parent, 0o666 if mode is None else 0o600)
    try:
        try:
            if owner is not None:
                os.fchown(descriptor, *owner)
            if mode == FILE_MODE:
                give_mode(descriptor, mode)
            elif mode is not None:
                os.fchmod(descriptor, mode)
            _fill(descriptor, content)
        finally:
            os.close(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the folder's entries written to disk: without it, a power cut can undo a rename.

    Some network file systems cannot do that for a folder; they are taken at their word.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def stale_drafts(folder: Path) -> Iterator[Path]:
    """Yield the drafts in `folder`, files and folders, that were left behind: nothing in them changed for a day."""
    for draft in folder.glob(f"{DRAFT}*"):
        with suppress(OSError):  # somebody else has just renamed it, or cleared it away
            if time.time() - draft.stat().st_mtime > STALE_AFTER_S:
                yield draft


def remove_stale_files(folder: Path) -> None:
    """Remove the drafts of files that writers left in `folder` when they were killed; those that cannot be, stay."""
    for draft in stale_drafts(folder):
        with suppress(OSError):
            draft.unlink()


def _open_draft(folder: Path, mode: int) -> tuple[int, Path]:
    """Return a new draft, open for writing, and its path; it gets of `mode` what the umask leaves."""
    draft = folder / f"{DRAFT}{secrets.token_hex(8)}"
    return os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), draft


def _fill(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.fsync(descriptor)

"""Writes files so that a power cut leaves the old state or the new one, and never half of either."""

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
"""Prefix of the name of an unfinished file or folder. Its final name is left out: it may be as long as is allowed."""

STALE_AFTER_S = 24 * 3600
"""Nobody is going to finish a draft this old any more."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The system's errors for a full disk. They do not say which disk if the file was open already."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Name the `place` being written to in a full-disk error that names no file, to say which disk is meant."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def write_new(path: Path, content: bytes) -> None:
    """Write a new file and sync it to disk; FileExistsError if it exists already."""
    with path.open("xb") as file:
        give_mode(file.fileno(), FILE_MODE)
        _fill(file.fileno(), content)


def give_mode(made: int | Path, mode: int) -> None:
    """Set the `mode`, which lets others read it, of a file or folder that this process has just made.

    A file system without modes of its own, such as a Windows share that root has mounted, refuses this to all but its
    owner. That is ignored: there the mount says who may read.
    """
    try:
        os.chmod(made, mode)  # noqa: PTH101 - it may be a descriptor
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise


def replace(path: Path, content: bytes, *, mode: int | None = FILE_MODE, owner: tuple[int, int] | None = None) -> None:
    """Give the file at `path` this `content`, whether it exists or not: readers see the old content or the new.

    It gets `mode` (None: what the umask leaves, as for any new file) and, if given, `owner` (user and group) before
    anything is in it. If a mode that keeps others out cannot be set, that is an error.
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
    """Sync the folder's entries to disk: without this, a power cut can undo a rename.

    Some network file systems cannot sync a folder and say so; that error is ignored.
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
    """Yield the drafts (files and folders) left behind in `folder`: those that have not changed for a day."""
    for draft in folder.glob(f"{DRAFT}*"):
        with suppress(OSError):  # somebody else has just renamed it, or cleared it away
            if time.time() - draft.stat().st_mtime > STALE_AFTER_S:
                yield draft


def remove_stale_files(folder: Path) -> None:
    """Remove the draft files that killed writers left in `folder`; those that cannot be removed stay."""
    for draft in stale_drafts(folder):
        with suppress(OSError):
            draft.unlink()


def _open_draft(folder: Path, mode: int) -> tuple[int, Path]:
    """Make a draft with what the umask leaves of `mode`; return its descriptor, open for writing, and its path."""
    draft = folder / f"{DRAFT}{secrets.token_hex(8)}"
    return os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), draft


def _fill(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.fsync(descriptor)

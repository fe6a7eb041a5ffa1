"""Reads files of the store, and refuses anything that is not a regular file."""

import errno
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """Return the first `limit` bytes of a file.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: it cannot be read, or is not a regular file: a FIFO may never get a writer, a device may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    with path.open("rb") as file:
        return file.read(limit)

"""Reading a file of the store, and nothing that is no file."""

import errno
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """Return the first `limit` bytes of a file.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: it cannot be read, or is no regular file: nobody may ever write into a FIFO, a device may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    with path.open("rb") as file:
        return file.read(limit)

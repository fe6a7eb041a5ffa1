"""What a file system says of files without reading them: as a rule enough to see that one has changed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

Stamp = tuple[int, int]
"""A file's size, bytes, and the time of its last change, ns."""


def stamps_of(files: Iterable[str]) -> Mapping[str, Stamp]:
    """Return the stamps of those `files` that exist."""
    found: dict[str, Stamp] = {}
    for file in files:
        try:
            status = Path(file).stat()
        except OSError:
            continue
        found[file] = status.st_size, status.st_mtime_ns
    return found

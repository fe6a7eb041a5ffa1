"""What is on the disk itself, whatever comes: a test sees each time that the system is told to write something down."""

import os
from pathlib import Path

import pytest

Sync = tuple[Path, bytes | list[str]]
"""A file with what it held at that moment, or a folder with the names in it."""


def noted_syncs(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[Sync]:
    """Return a list to which each `os.fsync` of something in `root` is added from now on, as it is called."""
    noted: list[Sync] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        [path] = [path for path in [root, *root.rglob("*")] if os.path.samestat(path.stat(), found)]
        noted.append((path, sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()))  # noqa: PTH208
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return noted

"""Pins: which version of a modality is to be served if not the newest.

A pin is the file `<modality>/pin`, which holds the version's number. Servers read it each time they look at the store.
"""

import re
from pathlib import Path

from service.errors import BadCheckpoint
from service.store.card import VERSION
from service.store.durable import remove_stale_files, replace, sync_folder
from service.store.reading import read_regular

PIN = "pin"
LARGEST_PIN_BYTES = 64


def write_pin(store: Path, modality: str, version: str) -> None:
    """Pin a published version of `modality`, in place of an earlier pin, if any.

    A draft left behind by a process killed while pinning is removed once it is a day old.

    Raises:
        OSError: the store is not writable, or full; the pin is as it was.
    """
    path = store / modality / PIN
    _remove_folder(path)
    remove_stale_files(path.parent)
    replace(path, f"{version}\n".encode())


def remove_pin(store: Path, modality: str) -> bool:
    """Remove the pin of `modality`; return whether there was one. Raises OSError if the store is not writable."""
    path = store / modality / PIN
    was_folder = _remove_folder(path)
    try:
        path.unlink(missing_ok=was_folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    sync_folder(store / modality)
    return True


def _remove_folder(path: Path) -> bool:
    """Remove an empty folder that stands where a pin should; return whether there was one."""
    try:
        path.rmdir()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_pin(store: Path, modality: str) -> str | None:
    """Return the pinned version, whether it is published or not; None if there is no pin.

    Raises:
        BadCheckpoint: the pin cannot be read, or holds no version.
    """
    path = store / modality / PIN
    try:
        content = read_regular(path, LARGEST_PIN_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise BadCheckpoint(f"{path} links to nothing. Write it anew with `alnet models pin`") from None
        return None
    except OSError as error:
        raise BadCheckpoint(
            f"{path}: cannot be read ({error.strerror}). Check its owner, or write it anew with `alnet models pin`"
        ) from error
    version = content.decode("ascii", "replace").strip()
    if len(content) > LARGEST_PIN_BYTES or not re.fullmatch(VERSION, version):
        raise BadCheckpoint(f"{path} holds no version. Write it with `alnet models pin`, or remove it")
    return version

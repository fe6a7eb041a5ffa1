"""The file of API keys: one line for each, `name sha256 digest day`. No key can be recovered from it.

A key is 256 random bits, so there is no list of likely keys to try against a digest: one SHA-256 is as sound here as a
slow, salted hash is for passwords that people choose, and it costs a request no more than a microsecond.
"""

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from service.errors import BadParameter, BadSettings
from service.store.durable import replace
from service.store.reading import read_regular

KEY_PREFIX = "alnet_"
"""What every key begins with, so that a scanner for leaked secrets can recognise one."""
RANDOM_BYTES = 32
MOST_KEYS = 1000
LARGEST_BYTES = 1 << 20
"""Limit of a key file's size: seven times what `MOST_KEYS` keys take. A larger file is refused."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TITLE = "# API keys of alnet-service: name, hash, digest, day. Changed by `alnet keys`; a running server follows."


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is kept of a key: `digest` is the SHA-256 of its text, 32 bytes."""

    name: str
    digest: bytes
    created: date


def digest_of(key: bytes) -> bytes:
    """Return the SHA-256 of a key as it is sent."""
    return hashlib.sha256(key).digest()


def read_keys(file: Path) -> list[StoredKey]:
    """Return the file's keys in their order; a file without keys is sound, and lets nobody in.

    Raises:
        BadSettings: the file is missing, cannot be read, or has a line that is not a key. The message gives the line's
            number, never its text.
    """
    return [key for key in map(_parse, _checked_lines(file)) if key is not None]


def add_key(file: Path, name: str) -> str:
    """Make a new key, add it to the file (which is made if it is missing), and return it: it cannot be shown again.

    Raises:
        BadParameter: the name is taken, or is not 1 to 64 letters, digits, dots, underscores and hyphens, or does not
            begin with a letter or digit; or the file holds `MOST_KEYS` keys already.
        BadSettings: the file is damaged, or there is no folder for it.
        OSError: the file cannot be written.
    """
    if NAME.fullmatch(name) is None:
        raise BadParameter("a key's name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
    key = KEY_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    with _locked(file):
        lines = _checked_lines(file) if file.exists() else [TITLE]
        names = [stored.name for stored in map(_parse, lines) if stored is not None]
        if name in names:
            raise BadParameter(f"there is a key {name!r} already; revoke it first, or take another name")
        if len(names) >= MOST_KEYS:
            raise BadParameter(f"{file} holds {MOST_KEYS} keys already; revoke those that nobody uses")
        _replace(file, [*lines, f"{name} sha256 {digest_of(key.encode()).hex()} {datetime.now(UTC).date()}"])
    return key


def remove_key(file: Path, name: str) -> None:
    """Remove the key of this name from the file.

    Raises:
        BadParameter: there is no such key.
        BadSettings: the file is missing or damaged.
        OSError: the file cannot be written.
    """
    with _locked(file):
        lines = _checked_lines(file)
        kept = [line for line in lines if (stored := _parse(line)) is None or stored.name != name]
        if len(kept) == len(lines):
            raise BadParameter(f"{file} has no key {name!r}; `alnet keys list` shows those that it has")
        _replace(file, kept)


def _checked_lines(file: Path) -> list[str]:
    try:
        content = read_regular(file, LARGEST_BYTES + 1)
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadSettings(
            f"cannot read the API keys in {file}: {reason}; `alnet keys new` makes such a file"
        ) from error
    if len(content) > LARGEST_BYTES:  # read only in part, it would be written back in part by the next change
        raise BadSettings(f"{file} is no file of API keys: it is larger than {LARGEST_BYTES} bytes")
    seen: set[str | bytes] = set()
    for number, line in enumerate(lines, start=1):
        try:
            stored = _parse(line)
        except ValueError:
            raise BadSettings(f"{file}, line {number}, is no API key: name, sha256, digest and day are") from None
        if stored is None:
            continue
        if {stored.name, stored.digest} & seen:
            raise BadSettings(f"{file}, line {number}, repeats the name or digest of another key")
        seen |= {stored.name, stored.digest}
    if len(seen) > 2 * MOST_KEYS:
        raise BadSettings(f"{file} holds more than {MOST_KEYS} API keys")
    return lines


def _parse(line: str) -> StoredKey | None:
    """Return the key of a line, or None for a comment or an empty line.

    Raises:
        ValueError: the line is none of these.
    """
    if not line.strip() or line.startswith("#"):
        return None
    name, algorithm, digest, created = line.split()
    if NAME.fullmatch(name) is None or algorithm != "sha256" or DIGEST.fullmatch(digest) is None:
        raise ValueError
    return StoredKey(name, bytes.fromhex(digest), date.fromisoformat(created))


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep others from changing the file meanwhile: the later of two changes must not undo the earlier."""
    where = file.resolve().parent
    try:
        folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadSettings(f"{where} is no folder that could hold the API keys; make it first, with mode 700") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(file: Path, lines: Sequence[str]) -> None:
    """Write the file anew, all or nothing, with access for its owner alone, who stays the same."""
    target = file.resolve()  # a symbolic link stays one
    before = target.stat() if target.exists() else None
    content = "".join(f"{line}\n" for line in lines).encode()
    replace(target, content, mode=0o600, owner=(before.st_uid, before.st_gid) if before else None)

"""What a model store holds: `<modality>/<version>/`, versions counting up from 1. Reading only; `publish` writes."""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from service.errors import BadCheckpoint, UnknownModality
from service.store.card import NAME, VERSION, Card
from service.store.checkpoint import Checkpoint, Stamp, stamp
from service.store.pin import read_pin


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version of a modality that the store asks servers to run, and the state of its files.

    `card` is its card, if it has been read: another checkpoint may have taken the number of a removed one.
    """

    version: str
    is_pinned: bool
    stamp: Stamp
    card: Card | None = None


class ModelStore:
    """A folder of published checkpoints, looked at afresh on each call, so that new ones are seen.

    Entries whose names cannot be a modality's or a version's (files, drafts, dot-folders, `lost+found`) are skipped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def modalities(self) -> list[str]:
        """Return the sorted names of the modalities that have a published version; none if there is no store.

        A modality whose folder cannot be listed is included: asking for its versions then says why.

        Raises:
            BadCheckpoint: the store itself cannot be listed.
        """
        return [name for name in self.names() if self._may_have_versions(name)]

    def names(self) -> list[str]:
        """Return the sorted names of all folders that may be modalities, without looking into them.

        Raises:
            BadCheckpoint: the store itself cannot be listed.
        """
        return sorted(_folders(self.folder, NAME))

    def _may_have_versions(self, modality: str) -> bool:
        try:
            return bool(self.versions(modality))
        except BadCheckpoint:
            return True

    def versions(self, modality: str) -> list[int]:
        """Return the published versions of `modality`, oldest first; none if the store has no such modality.

        Raises:
            BadCheckpoint: a folder cannot be listed.
        """
        if not re.fullmatch(NAME, modality):
            return []
        return sorted(int(name) for name in _folders(self.folder / modality, VERSION))

    def published(self, modality: str) -> list[str]:
        """Return the names of the published versions of `modality`, oldest first; there is at least one.

        Raises:
            UnknownModality: there is no such modality; the message lists the store's other folders.
            BadCheckpoint: a folder cannot be listed.
        """
        versions = [str(number) for number in self.versions(modality)]
        if not versions:
            known = ", ".join(name for name in self.names() if name != modality) or "none"
            raise UnknownModality(f"no modality {modality!r} in the model store; it has: {known}", store=self.folder)
        return versions

    def newest(self, modality: str) -> Checkpoint:
        """Return the newest version of `modality`; errors as for `open`."""
        return self.open(modality)

    def wanted(self, modality: str) -> Wanted:
        """Return which version of `modality` is to be served: the pinned one, or else the newest.

        Cheap enough to be called every second: one folder is listed, and no card or weights are read.

        Raises:
            UnknownModality: the store has no such modality, or lacks the pinned version.
            BadCheckpoint: a folder cannot be listed, or the pin cannot be read or holds no version.
        """
        versions = self.published(modality)
        pinned = read_pin(self.folder, modality)
        if pinned is not None and pinned not in versions:
            raise UnknownModality(
                f"{modality} is pinned to version {pinned}, which is not published; it has: {', '.join(versions)}. "
                f"Pin one of them, or lift the pin: `alnet models unpin {modality}`"
            )
        version = pinned or versions[-1]
        return Wanted(version, pinned is not None, stamp(self.folder / modality / version))

    def current(self, modality: str) -> Checkpoint:
        """Return the version of `modality` that is to be served; errors as for `wanted` and `open`."""
        return self.open(modality, self.wanted(modality).version)

    def before(self, modality: str, version: str) -> str:
        """Return the newest published version of `modality` that is older than `version`.

        Raises:
            UnknownModality: there is none.
            BadCheckpoint: a folder cannot be listed.
        """
        versions = self.published(modality)
        older = [name for name in versions if int(name) < int(version)]
        if not older:
            raise UnknownModality(f"no version of {modality} before {version}; it has: {', '.join(versions)}")
        return older[-1]

    def open(self, modality: str, version: str | None = None) -> Checkpoint:
        """Return one published checkpoint; the newest if `version` is None. Its weights are not read yet.

        Raises:
            UnknownModality: there is no such modality, or no such version of it; the message lists those that exist.
            BadCheckpoint: its folder is broken; the message names the folder, the file or field, and what to do.
        """
        versions = self.published(modality)
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise UnknownModality(f"no version {version!r} of {modality}; it has: {', '.join(versions)}")
        return Checkpoint.read(self.folder / modality / version)


def next_version(store: Path, modality: str) -> str:
    """Return the version for the next checkpoint of `modality` published into `store`: "1" to begin with.

    Every entry with a version's name counts, folder or not: nothing can be published under that name.

    Raises:
        BadCheckpoint: the folder cannot be listed, or holds the highest number there is.
    """
    folder = store / modality
    last = max((int(entry.name) for entry in _named(folder, VERSION)), default=0)
    if not re.fullmatch(VERSION, str(last + 1)):
        raise BadCheckpoint(f"{folder / str(last)} has the last number that there is; rename it")
    return str(last + 1)


def _folders(parent: Path, pattern: str) -> list[str]:
    """Return the names of the folders in `parent` that match `pattern`."""
    return [entry.name for entry in _named(parent, pattern) if _may_be_folder(entry)]


def _named(parent: Path, pattern: str) -> "list[os.DirEntry[str]]":
    """Return the entries of `parent` whose names match `pattern`; none if there is no such folder."""
    try:
        with os.scandir(parent) as entries:
            return [entry for entry in entries if re.fullmatch(pattern, entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadCheckpoint(
            f"{parent}: cannot be listed ({error.strerror}). Check its owner and permissions"
        ) from error


def _may_be_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether the entry is a folder; one that cannot tell (a mount that has gone) counts as one.

    So it does not hide the others. Nor does one that hangs: only links are queried, as the listing of the parent says
    what all other entries are.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        return error.errno not in {errno.ENOTDIR, errno.ELOOP}

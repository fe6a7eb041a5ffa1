"""What a model store holds: `<modality>/<version>/`, versions counting up from 1. Reading only; `publish` writes."""

import re
from pathlib import Path

from service.errors import BadCheckpoint, UnknownModality
from service.store.card import NAME, VERSION
from service.store.checkpoint import Checkpoint


class ModelStore:
    """A folder of published checkpoints, looked at afresh on each call, so that what is newly published is seen.

    Anything whose name is no modality's or version's (files, drafts, dot-folders, `lost+found`) is passed over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def modalities(self) -> list[str]:
        """Return the names of those modalities that have a published version, sorted; none if there is no store.

        Raises:
            BadCheckpoint: a folder cannot be listed.
        """
        return sorted(name for name in _folders(self.folder, NAME) if self.versions(name))

    def versions(self, modality: str) -> list[int]:
        """Return the published versions of `modality`, oldest first; none if the store has no such modality.

        Raises:
            BadCheckpoint: a folder cannot be listed.
        """
        if not re.fullmatch(NAME, modality):
            return []
        return sorted(int(name) for name in _folders(self.folder / modality, VERSION))

    def newest(self, modality: str) -> Checkpoint:
        """Return the newest version of `modality`; errors as for `open`."""
        return self.open(modality)

    def open(self, modality: str, version: str | None = None) -> Checkpoint:
        """Return one published checkpoint; the newest if `version` is None. Its weights are not read yet.

        Raises:
            UnknownModality: there is no such modality, or no such version of it; the message lists those that exist.
            BadCheckpoint: its folder is broken; the message names the folder, the file or field, and what to do.
        """
        versions = [str(number) for number in self.versions(modality)]
        if not versions:
            known = ", ".join(self.modalities()) or "none"
            raise UnknownModality(f"no modality {modality!r} in the model store; it has: {known}")
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise UnknownModality(f"no version {version!r} of {modality}; it has: {', '.join(versions)}")
        return Checkpoint.read(self.folder / modality / version)


def next_version(store: Path, modality: str) -> str:
    """Return the version that a checkpoint of `modality`, published next into `store`, should have: "1" to begin with.

    Raises:
        BadCheckpoint: a folder cannot be listed.
    """
    return str(max(ModelStore(store).versions(modality), default=0) + 1)


def _folders(parent: Path, pattern: str) -> list[str]:
    """Return the names of the folders in `parent` that match `pattern`."""
    try:
        return [entry.name for entry in parent.iterdir() if re.fullmatch(pattern, entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadCheckpoint(
            f"{parent}: cannot be listed ({error.strerror}). Check its owner and permissions"
        ) from error

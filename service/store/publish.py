"""Publishes a checkpoint: all of it or nothing, and without changing what is published already.

A draft is written under a hidden name inside the store and renamed into place, so that readers see the old store or the
new one. A publisher that is killed on the way leaves its draft, which readers skip and a later publish removes. One
that is killed while making the store itself leaves a draft beside the store; there only empty folders are removed. Of
the drafts of pins, which are files, a publish removes those of its own modality.
"""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from service.errors import AlreadyPublished, BadCheckpoint
from service.store.card import Card
from service.store.checkpoint import (
    CARD,
    INT8_CONSTANTS,
    INT8_GRAPH,
    README,
    WEIGHTS,
    Contents,
    parse_card,
    sha256,
)
from service.store.durable import DRAFT, give_mode, remove_stale_files, stale_drafts, sync_folder, write_new
from service.store.model_store import next_version
from service.store.readme import card_readme

TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
"""The system's errors for renaming a folder to the name of one that is not empty."""

FOLDER_MODE = 0o755
TRIES = 20
"""How often to look for a version that no other publisher has just taken."""


def publish(store: Path, card: Card, contents: Contents | bytes) -> Path:
    """Publish `contents` (bytes: weights alone) and `card` as `store/<modality>/<version>`; return that folder.

    The store is made if there is none. What is published is readable by every user, whatever the umask.

    Raises:
        AlreadyPublished: that version exists; it is left as it was.
        BadCheckpoint: the card describes other contents, or would not be read back as it is.
        OSError: the disk is full or the store is not writable, and nothing was published; or all is published, but the
            disk did not promise to keep it. The message says which.
    """
    files = _files(card, Contents(contents) if isinstance(contents, bytes) else contents)
    target = store / card.modality / card.version
    try:
        _make_folder(store)
        _remove_stale_drafts(store)
        remove_stale_files(target.parent)
        _write_then_rename(store, target, files)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; nothing was published", str(target)) from error
    try:
        sync_folder(target.parent)
        sync_folder(store)
    except OSError as error:
        fault = f"{error.strerror}; it is published, but may be lost if the machine goes down now"
        raise OSError(error.errno, fault, str(target)) from error
    return target


def publish_next(store: Path, card: Card, contents: Contents | bytes) -> Path:
    """Publish like `publish`, but under the modality's next free version, whatever version the card names.

    Raises:
        AlreadyPublished: other publishers took every version that was tried.
        BadCheckpoint: a folder cannot be listed; or as for `publish`.
        OSError: as for `publish`.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(AlreadyPublished):  # another publisher has just taken that version
            return _publish_as_next(store, card, contents)
    return _publish_as_next(store, card, contents)


def _publish_as_next(store: Path, card: Card, contents: Contents | bytes) -> Path:
    return publish(store, card.model_copy(update={"version": next_version(store, card.modality)}), contents)


def _files(card: Card, contents: Contents) -> dict[str, bytes]:
    files = {WEIGHTS: contents.weights}
    digests = {WEIGHTS: card.weights_sha256}
    if contents.int8 is not None:
        files |= {INT8_GRAPH: contents.int8.graph, INT8_CONSTANTS: contents.int8.constants}
    if card.int8 is not None:
        digests |= {INT8_GRAPH: card.int8.xml_sha256, INT8_CONSTANTS: card.int8.bin_sha256}
    if (found := {name: sha256(content) for name, content in files.items()}) != digests:
        raise BadCheckpoint(f"these files have the sha256 {found}, their card says {digests}")
    content = (card.model_dump_json(indent=2) + "\n").encode()
    if parse_card(content) != card:  # a copy made with model_copy(update=...) was never validated
        raise BadCheckpoint(f"the card of {card.modality} {card.version} would not be read back as it is")
    return {**files, CARD: content, README: card_readme(card).encode()}


def _write_then_rename(store: Path, target: Path, files: Mapping[str, bytes]) -> None:
    draft = Path(tempfile.mkdtemp(dir=store, prefix=DRAFT))
    try:
        for name, content in files.items():
            write_new(draft / name, content)
        give_mode(draft, FOLDER_MODE)
        sync_folder(draft)
        _make_folder(target.parent)
        _rename_to_new(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _rename_to_new(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)  # atomic, and refused by the system if the target holds anything
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        raise AlreadyPublished(f"{target} is published already; a new checkpoint needs a new version") from error


def _make_folder(folder: Path) -> None:
    """Make a folder if there is none. It gets its mode before its name, so a kill in between locks nobody out."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=DRAFT))
    give_mode(draft, FOLDER_MODE)
    try:
        draft.rename(folder)
    except OSError as error:
        draft.rmdir()
        if error.errno not in TAKEN:  # another publisher has just made it, and published
            raise


def _remove_stale_drafts(store: Path) -> None:
    for draft in stale_drafts(store):
        shutil.rmtree(draft, ignore_errors=True)
    for draft in stale_drafts(store.absolute().parent):
        with contextlib.suppress(OSError):  # it is not empty, or is somebody else's: not a draft of a store
            draft.rmdir()

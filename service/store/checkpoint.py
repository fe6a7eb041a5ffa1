"""One published checkpoint on disk: a folder `<modality>/<version>` with a card and the weights that it describes.

Does not need torch: it hands out weights as bytes whose digest has been checked, and the engine parses them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from service.errors import BadCheckpoint, BadConfig
from service.store.card import Card
from service.store.reading import read_regular

CARD = "card.json"
WEIGHTS = "weights.safetensors"
README = "README.md"
INT8_GRAPH = "int8.xml"
INT8_CONSTANTS = "int8.bin"
LARGEST_CARD_BYTES = 1 << 20
LARGEST_FILE_BYTES = 1 << 30
"""Limit of each file beside a card, all read whole: four times the weights of the largest architecture there is."""

RESTORE = "Restore the folder from where it was published, or remove it"
NEWER = "A newer version of this service may have written it: update this one"
"""Advice for a broken folder, and for one that may be sound to a newer version: removing that one is no remedy."""

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""The state of a checkpoint's files, found without reading them: a different stamp means different files."""


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits, as cards record it."""
    return hashlib.sha256(data).hexdigest()


def parse_card(content: bytes) -> Card:
    """Return the card that `content`, the bytes of a card.json, holds.

    Raises:
        BadCheckpoint: it is not JSON, is over 1 MiB, or has a field missing, unknown or out of range; the first such
            field is named.
    """
    if len(content) > LARGEST_CARD_BYTES:
        raise BadCheckpoint(f"{CARD} is larger than {LARGEST_CARD_BYTES} bytes")
    try:
        return Card.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        fault = first["msg"].removeprefix("Value error, ")
        raise BadCheckpoint(f"{CARD}: {f'field {field}: ' if field else ''}{fault}") from error
    except BadConfig as error:  # the input policy checks itself
        raise BadCheckpoint(f"{CARD}: field input: {error}") from error


def stamp(folder: Path) -> Stamp:
    """Return, for each of a checkpoint's files, values that show whether it has changed; None if it is not there.

    They are its inode, its size, and the times at which its content and its permissions last changed.
    """
    return tuple(_file_stamp(folder / name) for name in (CARD, WEIGHTS, INT8_GRAPH, INT8_CONSTANTS))


def _file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Int8Model:
    """The 8-bit form of a network, as OpenVINO stores a model: the graph, and the constants in it."""

    graph: bytes
    constants: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies beside a card: the weights (a safetensors archive) and, if there is one, the 8-bit form."""

    weights: bytes
    int8: Int8Model | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A card, and the folder that holds it and its weights. The weights are not read until `read_weights`."""

    card: Card
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the checkpoint in `folder`, whose path ends in `<modality>/<version>`.

        Raises:
            BadCheckpoint: the card is missing, unreadable, invalid, or of another modality or version than the path.
        """
        checkpoint = cls.read_anywhere(folder)
        card = checkpoint.card
        if (card.modality, card.version) != (folder.parent.name, folder.name):
            raise _broken(folder, f"{CARD} is of {card.modality} {card.version}, which is not the folder's name")
        return checkpoint

    @classmethod
    def read_anywhere(cls, folder: Path) -> Self:
        """Return the checkpoint in `folder`, whatever the folder is called.

        Raises:
            BadCheckpoint: the card is missing, unreadable, over 1 MiB or invalid.
        """
        content = _read(folder, CARD, LARGEST_CARD_BYTES)
        try:
            return cls(parse_card(content), folder)
        except BadCheckpoint as error:
            raise _broken(folder, str(error), NEWER if _may_be_newer(error) else RESTORE) from error

    @property
    def weights_path(self) -> Path:
        """The file of weights. Code that opens it without `read_weights` must check its digest itself."""
        return self.folder / WEIGHTS

    def contents(self) -> Contents:
        """Return everything that the card describes, after checking it against the card's digests.

        Raises:
            BadCheckpoint: a file is missing, unreadable or over 1 GiB, or its SHA-256 is not the card's.
        """
        return Contents(self.read_weights(), self._read_int8())

    def read_weights(self) -> bytes:
        """Return the bytes of the weights file, a safetensors archive, after checking them against the card's digest.

        Raises:
            BadCheckpoint: the file is missing, unreadable or over 1 GiB, or its SHA-256 is not the card's.
        """
        return self._verified(WEIGHTS, self.card.weights_sha256)

    def _read_int8(self) -> Int8Model | None:
        card = self.card.int8
        if card is None:
            return None
        return Int8Model(
            graph=self._verified(INT8_GRAPH, card.xml_sha256), constants=self._verified(INT8_CONSTANTS, card.bin_sha256)
        )

    def _verified(self, name: str, expected: str) -> bytes:
        content = _read(self.folder, name, LARGEST_FILE_BYTES)
        if (digest := sha256(content)) != expected:
            raise _broken(self.folder, f"{name} has sha256 {digest[:12]}…, its card says {expected[:12]}…")
        return content


def _read(folder: Path, name: str, most: int) -> bytes:
    path = folder / name
    try:
        size = path.stat().st_size
        if size > most:
            raise _broken(folder, f"{name} is larger than {most >> 20} MiB")
        return read_regular(path, size)
    except FileNotFoundError as error:
        raise _broken(folder, f"{name} is missing") from error
    except OSError as error:
        raise BadCheckpoint(f"{folder}: {name} cannot be read ({error.strerror})", may_pass=True) from error


def _may_be_newer(error: BadCheckpoint) -> bool:
    """Return whether `parse_card` first refused another format, or a field that this version does not know."""
    if not isinstance(error.__cause__, ValidationError):
        return False
    first = error.__cause__.errors()[0]
    return first["loc"] == ("format",) or first["type"] == "extra_forbidden"


def _broken(folder: Path, fault: str, advice: str = RESTORE) -> BadCheckpoint:
    return BadCheckpoint(f"{folder}: {fault}. {advice}")

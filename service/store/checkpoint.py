"""One published checkpoint on disk: a folder `<modality>/<version>` with a card and the weights that it describes.

Knows no torch: weights are handed out as bytes whose digest has been checked, and parsing them is the engine's work.
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
"""Of what lies beside a card, which is read whole: four times the weights of the largest architecture there is."""

RESTORE = "Restore the folder from where it was published, or remove it"
NEWER = "A newer version of this service may have written it: update this one"
"""What to do about a folder that is broken, and about one that may be sound for others; to remove that is no remedy."""

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""What a look at a checkpoint's files tells, without reading them: another stamp means other files."""


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits, as cards record it."""
    return hashlib.sha256(data).hexdigest()


def parse_card(content: bytes) -> Card:
    """Return the card that `content`, the bytes of a card.json, holds.

    Raises:
        BadCheckpoint: no JSON, over 1 MiB, or a field is missing, unknown or out of its range; names the first such.
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
    """Return what tells whether one of a checkpoint's files has changed; None for one that is not there.

    That is inode, size, and the times at which its content and its permissions last changed.
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
    """What lies beside a card: the weights, a safetensors archive, and the 8-bit form, if there is one."""

    weights: bytes
    int8: Int8Model | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A card and the folder in which it and its weights lie. The weights are not read until `read_weights`."""

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
        """Return the checkpoint in `folder`, whatever that is called.

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
        """The file of weights. Whoever opens it past `read_weights` checks its digest."""
        return self.folder / WEIGHTS

    def contents(self) -> Contents:
        """Return everything that the card describes, once it is known to be the card's.

        Raises:
            BadCheckpoint: a file is missing, unreadable or over 1 GiB, or its SHA-256 is not the card's.
        """
        return Contents(self.read_weights(), self._read_int8())

    def read_weights(self) -> bytes:
        """Return the bytes of the weights file, a safetensors archive, once they are known to be the card's.

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
    """Return whether what `parse_card` has refused first is another format, or a field that this version knows not."""
    if not isinstance(error.__cause__, ValidationError):
        return False
    first = error.__cause__.errors()[0]
    return first["loc"] == ("format",) or first["type"] == "extra_forbidden"


def _broken(folder: Path, fault: str, advice: str = RESTORE) -> BadCheckpoint:
    return BadCheckpoint(f"{folder}: {fault}. {advice}")

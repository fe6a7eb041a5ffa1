"""Where an image and its mask come from: bytes, read when they are needed."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.errors import BadDataset

MAX_FILE_BYTES = 1 << 30
"""Most bytes of one file, unpacked: a larger one is refused before it fills the memory."""

MAX_PIXELS = 100_000_000
"""Most pixels of one training image."""


class Source(Protocol):
    """One image in a file, or one page of it. `str(source)` says which, for messages."""

    @property
    def file(self) -> str:
        """The file's name; pages of one file share it."""

    @property
    def frame(self) -> int | None:
        """The page, counted from 0; None if the file is to have one page only."""

    def read(self) -> bytes:
        """Return the whole file's bytes.

        Raises:
            BadDataset: the file cannot be read.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file on disk; unpacked while reading if its name ends in `.gz`."""

    path: Path
    frame: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path}, page {self.frame}"

    @property
    def file(self) -> str:
        """The file's path."""
        return str(self.path)

    def read(self, *, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return the file's bytes, unpacked.

        Raises:
            BadDataset: the file cannot be read, is a damaged gzip file, or holds more than `limit_bytes`.
        """
        opener = gzip.open if self.path.suffix.lower() == ".gz" else open
        try:
            with opener(self.path, "rb") as file:
                content = file.read(limit_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:  # gzip raises all three on damaged files
            raise BadDataset(f"{self.path} cannot be read ({error}); replace or remove it and its partner") from error
        if len(content) > limit_bytes:
            raise BadDataset(f"{self.path} holds more than {limit_bytes:,} bytes; that is no training image")
        return content


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A file that exists only in memory."""

    file: str
    content: bytes
    frame: None = None

    def __str__(self) -> str:
        return self.file

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content


@dataclass(frozen=True, slots=True)
class NoMask:
    """Stands in for the mask of an image that has none, for training on images alone."""

    image: Source
    frame: None = None

    def __str__(self) -> str:
        return self.file

    @property
    def file(self) -> str:
        """A name that no file has."""
        return f"no mask of {self.image}"

    def read(self) -> bytes:
        """Return no bytes: whoever decodes masks has to treat this one separately."""
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A case: an image and its mask. `name` is unique in its dataset: "im0001", "ISIC_0000000", "slice-07"."""

    name: str
    image: Source
    mask: Source

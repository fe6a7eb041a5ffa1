"""Pairs that a table names, so that images and masks can keep their places and names."""

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import BadDataset
from service.imaging.file_names import unpacked
from service.store.card import printable
from service.training.pairs import FileSource, NoMask, Pair
from service.training.volumes import TIFF_SUFFIXES, count_pages, pages_as_pairs

TABLE = "pairs.csv"
IMAGE, MASK, NAME = "image", "mask", "name"
"""The columns that are read; any others may be there."""


LONGEST_NAME_BYTES = 255
"""The longest file name on all usual systems."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table; its `name` is the image's, without suffix, where the table gives none."""

    where: str
    image: Path
    mask: Path | None
    name: str


def read_listed(folder: Path) -> tuple[Pair, ...] | None:
    """Return the pairs that `pairs.csv` in `folder` names, in its order; None if there is no such file.

    Its first line names the columns: `image` and `mask`, paths relative to `folder`, and `name`, which may be left out.
    They are separated by commas, semicolons or tabs. A row without a mask has `NoMask`. TIFFs of several pages give a
    pair for each page.

    Raises:
        BadDataset: the table cannot be read, lacks a column, names a file that is not there, has no row, or has two
            pairs of one name; the message names the line.
    """
    table = folder / TABLE
    if table.is_symlink() and not table.exists():
        raise BadDataset(f"{table} is a link to what is not there: mend it, or remove it")
    if not table.is_file():
        return None
    pairs: dict[str, Pair] = {}
    for row in _rows(table):
        for pair in _pairs_of(row):
            if len(f"{pair.name}.png".encode()) > LONGEST_NAME_BYTES:
                rule = f"give a shorter one in a column {NAME}: pictures are called by it"
                raise BadDataset(f"{row.where}: the name {pair.name} is too long; {rule}")
            if pair.name in pairs:
                rule = f"give each another in a column {NAME}"
                raise BadDataset(f"{row.where}: {pairs[pair.name].image} is called {pair.name}, too; {rule}")
            pairs[pair.name] = pair
    if not pairs:
        raise BadDataset(f"{table} names no image; it needs a line for each, below {IMAGE},{MASK}")
    return tuple(pairs.values())


def _rows(table: Path) -> Iterator[_Row]:
    text = _text(table)
    delimiter = _delimiter(text)
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(table, reader.fieldnames)
        for cells in reader:
            where = f"{table}, line {reader.line_num}"
            if any(cell.strip() for cell in cells.pop(None, ())):
                raise BadDataset(
                    f"{where}: there are more cells than columns; put names that hold {delimiter!r} in quotes"
                )
            stripped = {column: (cell or "").strip() for column, cell in cells.items()}
            if any(stripped.values()):
                yield _row(table.parent, where, stripped)
    except csv.Error as error:
        raise BadDataset(f"{table}, line {reader.reader.line_num}: {error}") from error


def _delimiter(text: str) -> str:
    """Return the column separator: the one that makes a column `image`, whatever signs are in other names."""
    heading = next(iter(text.splitlines()), "").lower()

    def names_image(delimiter: str) -> bool:
        return any(name.strip().strip('"').strip() == IMAGE for name in heading.split(delimiter))

    return max(",;\t", key=lambda delimiter: (names_image(delimiter), heading.count(delimiter)))


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    """Raise BadDataset if no column is `image`, or two share a name, of which only the last would be read, silently."""
    if IMAGE not in columns:
        rule = f"its first line is to name the columns, {IMAGE},{MASK} (docs/training.md)"
        raise BadDataset(f"{table} has no column {IMAGE}: {rule}; call it otherwise if it is no table of pairs")
    for name in (IMAGE, MASK, NAME):
        if columns.count(name) > 1:
            raise BadDataset(
                f"{table} has {columns.count(name)} columns {name}; call those otherwise that are not meant"
            )


def _text(table: Path) -> str:
    try:
        return FileSource(table).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataset(f"{table} is no UTF-8; save it as CSV UTF-8") from error


def _row(folder: Path, where: str, cells: dict[str, str]) -> _Row:
    if not cells[IMAGE]:
        raise BadDataset(f"{where}: there is no {IMAGE}")
    image, mask = (_file(folder, where, cells.get(column, "")) for column in (IMAGE, MASK))
    assert image is not None  # noqa: S101 - its cell is not empty
    return _Row(where, image, mask, _checked(where, cells.get(NAME) or unpacked(image).stem))


def _file(folder: Path, where: str, cell: str) -> Path | None:
    """Return the file that a cell names, None if it is empty. Some systems write é as one character, others as two."""
    if not cell:
        return None
    path = folder / cell
    try:
        for spelt in (path, *(folder / unicodedata.normalize(form, cell) for form in ("NFC", "NFD"))):
            if spelt.is_file():
                return spelt
    except OSError as error:  # its name is too long, or a folder in it may not be entered
        raise BadDataset(f"{where}: {path} cannot be read: {error.strerror}") from error
    raise BadDataset(f"{where}: {path} is not there; files are named from {folder} on")


def _checked(where: str, name: str) -> str:
    """Return the name if a file can have it: pictures of a run are called by it."""
    try:
        printable(name)
    except ValueError as error:
        raise BadDataset(f"{where}: the name {name!a} {error}") from error
    if name in {".", ".."} or "/" in name or "\\" in name:
        raise BadDataset(f"{where}: {name!r} can be no file's name, and pictures are called by it")
    return name


def _pairs_of(row: _Row) -> list[Pair]:
    if unpacked(row.image).suffix.lower() in TIFF_SUFFIXES and (n := count_pages(row.image)) > 1:
        return pages_as_pairs(row.name, row.image, n, row.mask)
    image = FileSource(row.image)
    return [Pair(name=row.name, image=image, mask=NoMask(image) if row.mask is None else FileSource(row.mask))]

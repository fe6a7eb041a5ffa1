"""The table of `alnet segment`: a CSV file with a row for each mask."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.errors import BadParameter
from service.store.durable import naming

if TYPE_CHECKING:
    from service.engine.segmenter import Segmentation


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How cells begin that spreadsheets compute; some of these start programs."""


class Row(NamedTuple):
    """One image's row, named as in the service's JSON; `warnings` are codes, separated by spaces."""

    image: str
    width: int
    height: int
    threshold: float
    area_px: int
    area_fraction: float
    components_left_out: int
    left_out_px: int
    expected_iou: float
    warnings: str


def check_table(table: Path, files: Sequence[Path], outputs: Mapping[Path, Sequence[Path]]) -> None:
    """Raise BadParameter if the table would overwrite an image, or a mask the table."""
    taken = {path.resolve() for path in (*files, *(path for paths in outputs.values() for path in paths))}
    if table.resolve() in taken:
        raise BadParameter(f"--table {table} is one of the images or masks; give another file")


def check_writable(path: Path) -> None:
    """Raise OSError, before the work, if no table can be written there; an older table stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()


@contextmanager
def written(table: Path | None, files: Sequence[Path], rows: Mapping[Path, Row]) -> Iterator[None]:
    """Write the table, if there is to be one, from the `rows` that are there when the block ends, even by Ctrl-C.

    If Ctrl-C ends it before the first row, an older table stays.
    """
    try:
        yield
    except KeyboardInterrupt:
        if table is not None and rows:
            _write_table(table, [rows[file] for file in files if file in rows])
        raise
    if table is not None:
        _write_table(table, [rows[file] for file in files if file in rows])


def _write_table(path: Path, rows: Iterable[Row]) -> None:
    with naming(path), path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # as names are
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def row_of(file: Path, answer: "Segmentation") -> Row:
    """Return the table's row for a file's mask."""
    return Row(
        image=_no_formula(str(file)),
        width=answer.width,
        height=answer.height,
        threshold=answer.threshold,
        area_px=answer.area_px,
        area_fraction=round(answer.area_fraction, 6),
        components_left_out=answer.left_out.components,
        left_out_px=answer.left_out.pixels,
        expected_iou=round(answer.expected_iou, 4),
        warnings=" ".join(caution.code for caution in answer.cautions),
    )


def _no_formula(path: str) -> str:
    """Return a path to the same file that no spreadsheet takes for a formula: strangers may have named the images."""
    return f"./{path}" if path.startswith(FORMULA) else path


def left_out(rows: Iterable[Row]) -> str:
    """Return, for the end of a line, how many masks lack small components; empty if none does."""
    lacking = sum(row.components_left_out > 0 for row in rows)
    return f"; small components are left out of {lacking} (--all-components keeps them)" if lacking else ""

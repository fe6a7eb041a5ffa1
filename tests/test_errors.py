"""The tree of errors, as its docstring draws it."""

import re
from collections.abc import Iterator

import pytest

from service import errors
from service.errors import LONGEST_LINE, AlnetError, BadCheckpoint, UnknownModality, in_one_line, reason


def drawn() -> Iterator[tuple[str, str]]:
    """Yield each error in the drawing with the one it hangs from."""
    above = ["AlnetError"]
    for indent, name in re.findall(r"^((?:[│ ] {3})*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        del above[len(indent) // 4 + 1 :]
        yield name, above[-1]
        above.append(name)


def below(kind: type[AlnetError]) -> Iterator[tuple[str, str]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child.__name__, kind.__name__
            yield from below(child)


def test_every_error_hangs_where_it_is_drawn() -> None:
    assert sorted(drawn()) == sorted(below(AlnetError))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nretina 99: sound\r\n", "a retina 99: sound"),
        ("\x1b[2J\x9b\u202e\ud800", r"\x1b[2J\x9b\u202e\ud800"),
        ("größer als 3 × 3 …", "größer als 3 × 3 …"),
    ],
)
def test_a_text_becomes_one_line_that_prints(text: str, line: str) -> None:
    assert in_one_line(text) == line


@pytest.mark.parametrize("one", ["x", "\x1b"])
def test_of_a_long_text_the_middle_is_left_out(one: str) -> None:
    line = in_one_line(f"card.json: field {one * 900_000}: not permitted. Restore it")
    assert len(line) == LONGEST_LINE
    assert line.startswith("card.json: field ")
    assert line.endswith("not permitted. Restore it")


def test_a_bad_checkpoint_is_told_in_one_line_whatever_it_quotes() -> None:
    assert str(BadCheckpoint("unexpected field \x1b[2J\nx")) == r"unexpected field \x1b[2J x"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnknownModality("no modality\n'liver'"), "no modality 'liver'"),
        (RuntimeError("can't allocate memory\nframe #0: /venv/lib/libc10.so"), "RuntimeError: can't allocate memory"),
        (RuntimeError("Error(s) in loading:\n\tsize mismatch"), "RuntimeError: size mismatch"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_of_a_librarys_error_its_kind_and_first_line_are_told(error: Exception, told: str) -> None:
    assert reason(error) == told

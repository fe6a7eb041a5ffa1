"""The tree of errors, as its docstring draws it."""

import re
from collections.abc import Iterator

from service import errors
from service.errors import AlnetError


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

"""The option `--network` of commands that compare the paper's networks."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from service.errors import BadParameter

if TYPE_CHECKING:
    from service.reproduction.paper import Compared


def pick(keys: Collection[str], among: "Sequence[Compared]") -> "list[Compared]":
    """Return the networks with these keys, in the order of `among`.

    Raises:
        BadParameter: a key is that of no network.
    """
    known = [compared.key for compared in among]
    if unknown := [key for key in keys if key not in known]:
        raise BadParameter(f"--network {unknown[0]!r}: there are {', '.join(known)}")
    return [compared for compared in among if compared.key in keys]

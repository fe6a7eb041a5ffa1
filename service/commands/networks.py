"""The option `--network` of what compares the paper's networks: which of them its keys name."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from service.errors import BadParameter

if TYPE_CHECKING:
    from service.reproduction.paper import Compared


def pick(keys: Collection[str], among: "Sequence[Compared]") -> "list[Compared]":
    """Return the networks with these keys, in the order in which they stand.

    Raises:
        BadParameter: one is not among them.
    """
    known = [compared.key for compared in among]
    if unknown := [key for key in keys if key not in known]:
        raise BadParameter(f"--network {unknown[0]!r}: there are {', '.join(known)}")
    return [compared for compared in among if compared.key in keys]

"""How much memory the bodies of all uploads may take together, so that many slow callers cannot fill the host's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded

RETRY_AFTER_S = 1.0
"""What refused callers are told: most bodies arrive, and are let go, in less time than that."""


class BodyMemory:
    """`max_bytes` of memory for bodies that arrive or are being answered. Used on the event loop's thread only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def upload(self) -> Iterator[Callable[[int], None]]:
        """Give the function that takes memory for so many more bytes of one upload; all is given back at the end.

        It raises Overloaded if there is no room for them, and then takes nothing.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self._held + count > self._max_bytes:
                raise Overloaded(
                    "other callers' uploads fill the memory that there is for them; try again in a moment",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._held += count
            taken += count

        try:
            yield take
        finally:
            self._held -= taken

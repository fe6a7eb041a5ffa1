"""Limits the memory that the bodies of all uploads take together, so that many slow callers cannot fill the host's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded

RETRY_AFTER_S = 1.0
"""When refused callers are told to try again: most bodies arrive and are released in less time."""


class BodyMemory:
    """`max_bytes` of memory for bodies that are arriving or being answered. Used on the event loop's thread only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def upload(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes memory for a number of further bytes of one upload; all is freed at the end.

        The function raises Overloaded if there is no room for the bytes, and then takes nothing.
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

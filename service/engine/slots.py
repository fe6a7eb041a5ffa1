"""Equal parts of a device on which single items run side by side, as images on the cores of a CPU. Knows no tensors."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from service.engine.pending import Item, Result


@dataclass(frozen=True, slots=True)
class SideBySide(Generic[Item, Result]):
    """An engine that runs single items: `run` may be called from `slots` threads at a time, two at least."""

    run: Callable[[Item], Result]
    slots: int


class Slots:
    """Counts the single items that a device runs. Only whoever has the device's turn waits here, so one at a time."""

    def __init__(self) -> None:
        self._taken = 0
        self._freed = asyncio.Event()

    @property
    def taken(self) -> int:
        """Items that run, or are about to."""
        return self._taken

    def take(self) -> None:
        """Count one more."""
        self._taken += 1

    def give_back(self) -> None:
        """Count one less, and wake whoever waits."""
        self._taken -= 1
        self._freed.set()

    async def fewer_than(self, count: int) -> None:
        """Return as soon as fewer than `count` are taken."""
        while self._taken >= count:
            self._freed.clear()
            await self._freed.wait()

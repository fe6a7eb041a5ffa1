"""An upload on its way through the batcher: its items, what has become of them, and the future its caller awaits."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import AlnetError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """What one upload gets: a result for each of its items, in their order, and how it came by them."""

    results: list[Result]
    queued_s: float
    """Seconds from its arrival until its first batch left."""
    ran_s: float
    """Seconds in which the engine ran its items, including in batches that failed."""
    batch_size: int
    """Items in the largest of the batches that gave it a result."""


@dataclass(slots=True, eq=False)
class Pending(Generic[Item, Result]):
    """One caller's upload. `answer` is done once it has its answer, or its caller has left.

    It joined the queue at `arrived`; work on it began earlier, at `since`, because it had to be decoded.
    """

    items: Sequence[Item]
    answer: asyncio.Future[Answer[Result]]
    arrived: float
    since: float
    begun: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    batch_size: int = 0
    results: dict[int, Result] = field(default_factory=dict)
    _running: int = 0
    _since: float = 0.0

    def begin(self, now: float) -> "Part[Item, Result]":
        """Return its next item, which goes into a batch now."""
        if self.begun == 0:
            self.queued_s = now - self.arrived
        self.begun += 1
        return Part(self, self.begun - 1)

    def start(self, now: float) -> None:
        """Note that one of its items begins to run on its own; time in which several run counts once."""
        if not self._running:
            self._since = now
            if not self.ran_s:
                self.queued_s = now - self.arrived
        self._running += 1

    def stop(self, now: float) -> None:
        """Note that one of these items has ended."""
        self._running -= 1
        if not self._running:
            self.ran_s += now - self._since

    def receive(self, index: int, result: Result, *, batch_size: int) -> None:
        """Keep the result of item `index`; with the last one, answer the caller if it is still there."""
        self.results[index] = result
        self.batch_size = max(self.batch_size, batch_size)
        if len(self.results) == len(self.items) and not self.answer.done():
            results = [self.results[number] for number in range(len(self.items))]
            self.answer.set_result(Answer(results, self.queued_s, self.ran_s, self.batch_size))

    def fail(self, error: AlnetError) -> None:
        """Answer the caller with `error` if it is still there and has no answer."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(frozen=True, slots=True)
class Part(Generic[Item, Result]):
    """One item of an upload, in a batch."""

    upload: Pending[Item, Result]
    index: int

    @property
    def item(self) -> Item:
        """What the engine gets."""
        return self.upload.items[self.index]

    @property
    def is_wanted(self) -> bool:
        """Whether its upload still waits for results."""
        return not self.upload.answer.done()

    @property
    def is_last(self) -> bool:
        """Whether no item of its upload is left in the queue."""
        return self.index == len(self.upload.items) - 1

    @property
    def share(self) -> float:
        """How much of its upload it is, from 0 to 1."""
        return 1 / len(self.upload.items)

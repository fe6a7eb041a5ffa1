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
    """Engine seconds of all the batches that carried its items, failed ones included."""
    batch_size: int
    """Items in the largest of the batches that gave it a result."""


@dataclass(slots=True, eq=False)
class Pending(Generic[Item, Result]):
    """One caller's upload. `answer` is done once it has its answer, or its caller has left."""

    items: Sequence[Item]
    answer: asyncio.Future[Answer[Result]]
    arrived: float
    begun: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    batch_size: int = 0
    results: list[Result] = field(default_factory=list)

    def begin(self, now: float) -> "Part[Item, Result]":
        """Return its next item, which goes into a batch now."""
        if self.begun == 0:
            self.queued_s = now - self.arrived
        self.begun += 1
        return Part(self, self.begun - 1)

    def receive(self, result: Result, *, batch_size: int) -> None:
        """Keep the result of the next item, in order; with the last one, answer the caller if it is still there."""
        self.results.append(result)
        self.batch_size = max(self.batch_size, batch_size)
        if len(self.results) == len(self.items) and not self.answer.done():
            self.answer.set_result(Answer(self.results, self.queued_s, self.ran_s, self.batch_size))

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

"""An engine whose batches cost what a function of their size says, in virtual time, and callers who come back."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from service.engine.batcher import Answer, Batcher
from service.engine.device import Device
from tests.engine.virtual_time import SpendingExecutor, now


def line(each: float, fixed: float) -> Callable[[int], float]:
    """A batch of n costs `each` · n + `fixed` seconds."""
    return lambda size: each * size + fixed


class CostedEngine:
    """Gives items back as they came, and remembers when each batch began, and its size."""

    def __init__(self, cost: Callable[[int], float], executor: SpendingExecutor) -> None:
        self.cost, self._executor = cost, executor
        self.began: list[tuple[float, int]] = []

    def run(self, items: Sequence[int]) -> list[int]:
        self.began.append((now(), len(items)))
        self._executor.spend(self.cost(len(items)))
        return list(items)

    @property
    def sizes(self) -> list[int]:
        return [size for _, size in self.began]

    def spent_s(self, until: float) -> float:
        """Device seconds that its batches had had by that time."""
        return sum(min(self.cost(size), until - began) for began, size in self.began if began < until)

    def batcher(self, device: Device, *, max_wait_s: float = 0.0) -> Batcher[int, int]:
        """A batcher of batches of 8 at most, after a warm-up."""
        costs = {size: self.cost(size) for size in (1, 2, 4, 8)}
        return Batcher(
            self.run, device=device, max_size=8, max_wait_s=max_wait_s, max_queued=64, first_costs=costs, clock=now
        )


async def come_back(batcher: Batcher[int, int], pauses: Iterator[float], until: float) -> list[Answer[int]]:
    """One caller, who asks again after a pause for as long as it is not yet `until`."""
    answers = []
    while now() < until:
        answers.append(await batcher.submit([0]))
        await asyncio.sleep(next(pauses))
    return answers

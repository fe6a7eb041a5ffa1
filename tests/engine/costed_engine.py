"""An engine whose batches cost what a function of their size says, in virtual time, and callers who come back."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from service.engine.batcher import Answer, Batcher
from service.engine.device import Device
from service.engine.slots import SideBySide
from tests.engine.virtual_time import SlotsExecutor, SpendingExecutor, now


def line(each: float, fixed: float) -> Callable[[int], float]:
    """A batch of n costs `each` · n + `fixed` seconds."""
    return lambda size: each * size + fixed


class CostedEngine:
    """Gives items back as they came, and remembers when each batch began, and its size."""

    def __init__(
        self, cost: Callable[[int], float], executor: SpendingExecutor, beside: SlotsExecutor | None = None
    ) -> None:
        self.cost, self._executor, self._beside = cost, executor, beside
        self.began: list[tuple[float, int]] = []

    def run(self, items: Sequence[int]) -> list[int]:
        self.began.append((now(), len(items)))
        self._executor.spend(self.cost(len(items)))
        return list(items)

    def run_one(self, item: int) -> int:
        """Run an item beside others."""
        assert self._beside is not None
        self.began.append((now(), 1))
        self._beside.spend(self.cost(1))
        return item

    @property
    def sizes(self) -> list[int]:
        return [size for _, size in self.began]

    def spent_s(self, until: float) -> float:
        """Device seconds that its batches had had by that time."""
        return sum(min(self.cost(size), until - began) for began, size in self.began if began < until)

    def batcher(self, device: Device, *, max_wait_s: float = 0.0) -> Batcher[int, int]:
        """A batcher of batches of 8 at most, after a warm-up."""
        slots = 1 if self._beside is None else self._beside.slots
        return Batcher(
            self.run,
            side_by_side=None if self._beside is None else SideBySide(self.run_one, slots),
            device=device,
            max_size=8,
            max_wait_s=max_wait_s,
            max_queued=64,
            first_costs={size: self.cost(size) / slots for size in (1, 2, 4, 8)},
            clock=now,
        )


async def come_back(batcher: Batcher[int, int], pauses: Iterator[float], until: float) -> list[Answer[int]]:
    """One caller, who asks again after a pause for as long as it is not yet `until`."""
    answers = []
    while now() < until:
        answers.append(await batcher.submit([0]))
        await asyncio.sleep(next(pauses))
    return answers

"""Random histories of arrivals, departures, failures, deadlines and shutdown: what holds in all of them."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.slots import SideBySide
from service.errors import AlnetError, DeadlineExceeded, DeviceLost, EngineFailed, Overloaded, ShuttingDown
from tests.engine.virtual_time import SlotsExecutor, SpendingExecutor, now, run_virtually

Item = tuple[int, int]  # caller, index
EPSILON = 1e-9


@dataclass(frozen=True)
class Caller:
    """When it comes, what it brings, and when it goes."""

    arrives: float
    items: int
    poisonous: bool
    patience: float | None
    leaves_after: float | None


@dataclass(frozen=True)
class History:
    """Everything that happens to one or two batchers on one device."""

    callers: list[Caller]
    max_size: int
    max_queued: int
    max_wait_s: float
    room: int
    fixed_s: float
    each_s: float
    is_measured: bool
    closes: float
    drain_s: float | None
    slots: int
    dies_at_call: int | None
    miscounts_at_call: int | None

    def seconds(self, size: int) -> float:
        """What a batch costs."""
        return self.fixed_s + self.each_s * size


times = st.integers(0, 40).map(lambda tenths: tenths / 10)
callers = st.builds(
    Caller,
    arrives=st.integers(0, 12).map(lambda tenths: tenths / 10),
    items=st.sampled_from([1, 1, 1, 2, 5, 12]),
    poisonous=st.sampled_from([False, False, False, True]),
    patience=st.none() | times,
    leaves_after=st.none() | times,
)
histories = st.builds(
    History,
    callers=st.lists(callers, min_size=8, max_size=24),
    max_size=st.integers(1, 8),
    max_queued=st.integers(1, 8),
    max_wait_s=st.sampled_from([0.0, 0.1, 0.5]),
    room=st.integers(1, 12),
    fixed_s=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    each_s=st.sampled_from([0.01, 0.1]),
    is_measured=st.booleans(),
    closes=times | st.just(10.0),
    drain_s=st.none() | st.none() | times,
    slots=st.sampled_from([1, 1, 2, 3]),
    dies_at_call=st.none() | st.none() | st.integers(0, 9),
    miscounts_at_call=st.none() | st.none() | st.integers(0, 9),
)


@dataclass(frozen=True)
class EngineCall:
    """What one call of an engine was given, and when it began."""

    began: float
    items: list[Item]


class Engine:
    """Fails as the history says, and remembers every call."""

    def __init__(self, history: History, executor: SpendingExecutor, beside: SlotsExecutor) -> None:
        self.history, self.executor, self.beside = history, executor, beside
        self.calls: list[EngineCall] = []
        self.ran_out = 0

    def run(self, items: Sequence[Item]) -> list[Item]:
        number = len(self.calls)
        self.executor.spend(self.history.seconds(len(items)))
        self._work(items)
        if len(items) > self.history.room:
            raise MemoryError
        if number == self.history.miscounts_at_call:
            return list(items)[1:]
        return list(items)

    def run_beside(self, item: Item) -> Item:
        beside = self.beside.running  # 0: it has the device to itself, for memory had no room for it beside others
        (self.beside if beside else self.executor).spend(self.history.seconds(1))
        self._work([item])
        if beside > self.history.room:
            self.ran_out += 1
            raise MemoryError
        return item

    @property
    def side_by_side(self) -> SideBySide[Item, Item] | None:
        return SideBySide(self.run_beside, self.history.slots) if self.history.slots > 1 else None

    def _work(self, items: Sequence[Item]) -> None:
        number = len(self.calls)
        self.calls.append(EngineCall(now(), list(items)))
        if number == self.history.dies_at_call:
            raise SystemExit
        if any(self.history.callers[caller].poisonous and index == 0 for caller, index in items):
            raise ValueError

    def miscounted(self, caller: int) -> bool:
        """Whether an item of `caller` was in the call that gave too few results."""
        return any(
            number == self.history.miscounts_at_call and any(item[0] == caller for item in call.items)
            for number, call in enumerate(self.calls)
        )


@dataclass(frozen=True)
class End:
    """How it ended for one caller, and when."""

    at: float
    results: list[Item] | None = None
    error: AlnetError | None = None

    @property
    def left(self) -> bool:
        """Whether the caller was cancelled first."""
        return self.results is None and self.error is None


async def _call(batcher: Batcher[Item, Item], number: int, caller: Caller) -> End:
    deadline = None if caller.patience is None else now() + caller.patience
    try:
        answer = await batcher.submit([(number, index) for index in range(caller.items)], deadline=deadline)
    except AlnetError as error:
        return End(now(), error=error)
    except asyncio.CancelledError:
        return End(now())
    return End(now(), results=answer.results)


async def _visit(batcher: Batcher[Item, Item], number: int, caller: Caller) -> End:
    await asyncio.sleep(caller.arrives)
    call = asyncio.create_task(_call(batcher, number, caller))
    if caller.leaves_after is not None:
        await asyncio.sleep(0)  # it has submitted before it leaves
        asyncio.get_running_loop().call_later(caller.leaves_after, call.cancel)
    return await call


async def _live(history: History, engines: list[Engine]) -> list[End]:
    """Play the history; callers with even numbers go to the first batcher, those with odd numbers to the last."""
    device = Device("virtual", executor=engines[0].executor, beside=engines[0].beside, clock=now)
    measured = {size: history.seconds(size) for size in (1, history.max_size)}
    batchers = [
        Batcher(
            engine.run,
            side_by_side=engine.side_by_side,
            device=device,
            max_size=history.max_size,
            max_wait_s=history.max_wait_s,
            max_queued=history.max_queued,
            first_costs=measured if history.is_measured else None,
            clock=now,
        )
        for engine in engines
    ]

    async def serve(batcher: Batcher[Item, Item]) -> None:
        async with asyncio.timeout(None) as patience, batcher:
            await asyncio.sleep(history.closes)
            if history.drain_s is not None:
                patience.reschedule(now() + history.drain_s)

    services = [asyncio.create_task(serve(batcher)) for batcher in batchers]
    visits = [_visit(batchers[n % len(batchers)], n, caller) for n, caller in enumerate(history.callers)]
    ends = await asyncio.gather(*visits)
    await asyncio.gather(*services, return_exceptions=True)
    await asyncio.sleep(history.seconds(history.max_size))  # a batch that was cut off may still run
    assert all(batcher.queued == 0 for batcher in batchers)
    return ends


def _check_end(history: History, engine: Engine, number: int, end: End) -> None:
    """The caller's end is one that its own doings, or those of the whole service, account for."""
    caller = history.callers[number]
    if caller.patience is not None:
        assert end.at <= caller.arrives + caller.patience + EPSILON
    if end.left:
        assert caller.leaves_after is not None
    if end.results is not None:
        assert end.results == [(number, index) for index in range(caller.items)]
        assert not caller.poisonous
    if end.error is not None:
        _check_error(history, engine, number, end.error)


def _check_error(history: History, engine: Engine, number: int, error: AlnetError) -> None:
    caller = history.callers[number]
    match error:
        case Overloaded():
            assert not any(item[0] == number for call in engine.calls for item in call.items)
            assert 1 <= error.retry_after_s <= 60
        case EngineFailed():
            assert caller.poisonous or engine.miscounted(number)
        case DeviceLost():
            assert history.dies_at_call is not None
        case ShuttingDown():
            assert caller.arrives >= history.closes or history.drain_s is not None
        case DeadlineExceeded():
            assert caller.patience is not None
        case _:
            raise AssertionError(f"no such error is documented: {error!r}")


def _check_calls(history: History, engine: Engine, ends: list[End]) -> None:
    """No call is too large, no item comes twice but after a failure with more mates, none is run for a caller gone."""
    sizes: dict[Item, list[int]] = {}
    for call in engine.calls:
        assert 1 <= len(call.items) <= history.max_size
        assert len(set(call.items)) == len(call.items)
        for item in call.items:
            assert call.began <= ends[item[0]].at + EPSILON
            sizes.setdefault(item, []).append(len(call.items))
    for tries in sizes.values():
        assert all(later <= (earlier + 1) // 2 for earlier, later in itertools.pairwise(tries))
        assert tries.count(1) <= (1 if history.slots == 1 else 2)  # beside others, and then alone


@given(history=histories, batchers=st.integers(1, 2))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
def test_every_caller_is_answered_exactly_once_with_its_own_results(history: History, batchers: int) -> None:
    executor = SpendingExecutor()
    beside = SlotsExecutor(history.slots, executor)
    engines = [Engine(history, executor, beside) for _ in range(batchers)]
    ends = run_virtually(lambda: _live(history, engines))
    event(f"side by side at most: {beside.most}")
    event(f"no room beside others: {sum(engine.ran_out for engine in engines)}")
    for number, end in enumerate(ends):
        event(type(end.error).__name__ if end.error else "left" if end.left else "answered")
        _check_end(history, engines[number % batchers], number, end)
    for engine in engines:
        _check_calls(history, engine, ends)

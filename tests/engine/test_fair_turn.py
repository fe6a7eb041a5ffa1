"""Equal shares of a device's time. All in virtual time; whoever holds a turn sleeps."""

import asyncio
import itertools
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.fair_turn import MOST_CHARGED_S, RIVALRY_S, FairTurns, Share
from tests.engine.virtual_time import now, run_virtually


class Client:
    """Takes turns that last as long as told, one after another, and remembers when each began and ended."""

    def __init__(self, turns: FairTurns, lengths: Iterator[float], *, in_background: bool = False) -> None:
        self.share = turns.share(in_background=in_background)
        self.lengths = lengths
        self.turns: list[tuple[float, float]] = []

    async def take(self) -> None:
        async with self.share:
            began = now()
            await asyncio.sleep(next(self.lengths))
            self.turns.append((began, now()))

    async def take_until(self, end: float) -> None:
        while now() < end:
            await self.take()

    def had_s(self, until: float) -> float:
        return sum(ended - began for began, ended in self.turns if ended <= until)


async def hold(share: Share, seconds: float) -> None:
    async with share:
        await asyncio.sleep(seconds)


def test_a_turn_nobody_else_wants_is_given_at_once_again_and_again() -> None:
    async def main() -> None:
        client = Client(FairTurns(now), itertools.repeat(1.0))
        await client.take_until(3.0)
        assert client.turns == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]

    run_virtually(main)


def test_while_the_machine_stood_still_nobody_used_the_device() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        halted = Client(turns, itertools.chain([15.0], itertools.repeat(0.1)))
        other = Client(turns, itertools.repeat(0.1))
        await asyncio.gather(halted.take_until(19.0), other.take_until(19.0))
        assert 15.0 + MOST_CHARGED_S <= halted.turns[1][0] <= 15.0 + MOST_CHARGED_S + 0.3

    run_virtually(main)


def test_a_turn_costs_what_is_charged_beside_its_time() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        cheap, dear = (Client(turns, itertools.repeat(0.1)) for _ in range(2))

        async def pay() -> None:
            while now() < 10.0:
                dear.share.charge(0.2)
                await dear.take()

        await asyncio.gather(cheap.take_until(10.0), pay())
        assert cheap.had_s(9.0) == pytest.approx(3 * dear.had_s(9.0), abs=0.4)

    run_virtually(main)


lengths = st.lists(st.floats(0.001, 0.1), min_size=1, max_size=4)


@given(clients=st.lists(lengths, min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_those_who_always_want_the_device_have_equal_time_at_any_moment_but_for_one_turn_each(
    clients: list[list[float]],
) -> None:
    async def main() -> None:
        turns = FairTurns(now)
        members = [Client(turns, itertools.cycle(client)) for client in clients]
        await asyncio.gather(*[member.take_until(1.0) for member in members])
        moments = [ended for member in members for _, ended in member.turns if ended < 1.0]
        for one, other in itertools.combinations(range(len(members)), 2):
            slack = max(clients[one]) + max(clients[other]) + 1e-9
            assert all(abs(members[one].had_s(t) - members[other].had_s(t)) <= slack for t in moments)

    run_virtually(main)


def test_one_in_the_background_has_a_quarter_of_anothers_time_and_is_not_starved() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        batches = Client(turns, itertools.repeat(0.05))
        loading = Client(turns, itertools.repeat(0.2), in_background=True)
        await asyncio.gather(batches.take_until(20.0), loading.take_until(20.0))
        assert loading.had_s(20.0) == pytest.approx(4.0, abs=0.25)
        assert batches.had_s(20.0) == pytest.approx(16.0, abs=0.25)

    run_virtually(main)


def test_one_who_comes_seldom_waits_for_one_turn_at_most_however_many_others_want_the_device() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        heavy = [Client(turns, itertools.cycle([0.05, 0.02])) for _ in range(4)]
        light = Client(turns, itertools.repeat(0.005))
        running = [asyncio.create_task(client.take_until(5.0)) for client in heavy]
        for _ in range(20):
            await asyncio.sleep(0.213)
            asked = now()
            await light.take()
            assert light.turns[-1][0] - asked <= 0.05 + 1e-9
        await asyncio.gather(*running)

    run_virtually(main)


def test_who_comes_as_the_only_one_in_line_leaves_has_the_device_alone() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        before, leaves, comes, waits = (turns.share() for _ in range(4))
        async with before:
            left = asyncio.create_task(turns.take(leaves))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(hold(waits, 1.0))
        left.cancel()
        async with comes:
            await asyncio.sleep(1.0)
            assert not turns._line[waits].done()
        await waiting
        assert now() == 2.0

    run_virtually(main)


@pytest.mark.parametrize("others", [1, 2], ids=["beside one", "beside two, one of whom always waits"])
def test_a_pause_earns_no_credit(others: int) -> None:
    async def main() -> None:
        turns = FairTurns(now)
        paused, busy, *more = [Client(turns, itertools.repeat(0.1)) for _ in range(1 + others)]
        running = [asyncio.create_task(client.take_until(20.0)) for client in (busy, *more)]
        await asyncio.sleep(10.05)
        await paused.take_until(20.0)
        await asyncio.gather(*running)
        assert paused.had_s(20.0) == pytest.approx(busy.had_s(20.0) - busy.had_s(10.1), abs=0.2 + 1e-9)

    run_virtually(main)


def test_time_had_while_nobody_else_wanted_the_device_is_no_debt() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        alone, newcomer = [Client(turns, itertools.repeat(0.1)) for _ in range(2)]
        await alone.take_until(10.0)
        await asyncio.gather(newcomer.take_until(12.0), alone.take_until(12.0))
        assert newcomer.had_s(12.0) == pytest.approx(1.0, abs=0.1 + 1e-9)

    run_virtually(main)


def test_the_last_turn_before_others_came_is_no_debt_either() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        alone = Client(turns, itertools.chain([1.0], itertools.repeat(0.1)))
        newcomer = Client(turns, itertools.repeat(0.1))
        await alone.take()
        await asyncio.gather(newcomer.take_until(3.0), alone.take_until(3.0))
        assert newcomer.had_s(3.0) == pytest.approx(1.0, abs=0.1 + 1e-9)

    run_virtually(main)


def test_one_who_stops_waiting_keeps_nobody_from_the_turn() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        holder, leaving, staying = (turns.share() for _ in range(3))
        calls = [asyncio.create_task(hold(share, 1.0)) for share in (holder, leaving, staying)]
        await asyncio.sleep(0.5)
        calls[1].cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [type(None), asyncio.CancelledError, type(None)]
        assert (now(), turns.is_held) == (2.0, False)

    run_virtually(main)


@pytest.mark.parametrize("ticks", range(4))
def test_one_who_is_cancelled_just_as_the_turn_comes_hands_it_on(ticks: int) -> None:
    async def main() -> None:
        turns = FairTurns(now)
        leaving, late = turns.share(), turns.share()
        async with turns.share():
            call = asyncio.create_task(hold(leaving, 1.0))
            await asyncio.sleep(0.5)
        for _ in range(ticks):
            await asyncio.sleep(0)
        call.cancel()
        await hold(late, 1.0)
        assert (now(), turns.is_held, call.cancelled()) == (1.5, False, True)

    run_virtually(main)


def test_a_share_that_nobody_uses_any_more_is_forgotten() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        loading = turns.share(in_background=True)
        gone = weakref.ref(loading)
        await hold(loading, 0.1)
        del loading
        await asyncio.sleep(RIVALRY_S)
        await hold(turns.share(), 0.1)
        assert gone() is None

    run_virtually(main)


def test_an_error_in_a_turn_ends_it() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        with pytest.raises(ZeroDivisionError):
            async with turns.share():
                raise ZeroDivisionError
        assert not turns.is_held

    run_virtually(main)


def test_rivals_are_those_who_wait_and_those_who_had_a_turn_lately_but_not_in_the_background() -> None:
    async def main() -> None:
        turns = FairTurns(now)
        ours, other, loading = turns.share(), turns.share(), turns.share(in_background=True)
        await asyncio.gather(hold(ours, 0.1), hold(loading, 0.1))
        had_rivals = [ours.has_rivals]
        async with ours:
            waiting = asyncio.create_task(hold(other, 0.1))
            await asyncio.sleep(0.1)
            had_rivals.append(ours.has_rivals)
        await waiting
        had_rivals.append(ours.has_rivals)
        await asyncio.sleep(RIVALRY_S)
        had_rivals.append(ours.has_rivals)
        assert had_rivals == [False, True, True, False]

    run_virtually(main)

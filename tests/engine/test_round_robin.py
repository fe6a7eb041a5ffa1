import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine.round_robin import RoundRobin


def _all_turns(circle: RoundRobin[str]) -> str:
    turns = []
    while circle:
        turns.append(circle.next())
    return "".join(turns)


def test_members_take_turns_in_the_order_of_their_arrival() -> None:
    circle: RoundRobin[str] = RoundRobin()
    for member, turns in (("a", 4), ("b", 1), ("c", 2)):
        circle.add(member, turns)
    assert (list(circle), len(circle), circle.turns("a")) == (["a", "b", "c"], 3, 4)
    assert _all_turns(circle) == "abcacaa"


def test_a_new_member_joins_at_the_back() -> None:
    circle: RoundRobin[str] = RoundRobin()
    circle.add("a", 3)
    circle.add("b", 2)
    assert circle.next() == "a"
    circle.add("c", 1)
    assert _all_turns(circle) == "bacba"


def test_whoever_joins_leaves_or_has_a_turn_is_a_change() -> None:
    circle: RoundRobin[str] = RoundRobin()
    changes = [circle.changes]
    for change in (lambda: circle.add("a", 3), circle.next, lambda: circle.discard("a")):
        change()
        changes.append(circle.changes)
    assert len(set(changes)) == 4
    circle.turns("a")
    assert circle.changes == changes[-1]


def test_a_member_who_leaves_gets_no_more_turns() -> None:
    circle: RoundRobin[str] = RoundRobin()
    circle.add("a", 3)
    circle.add("b", 1)
    circle.next()
    circle.discard("a")
    circle.discard("a")
    assert circle.turns("a") == 0
    assert _all_turns(circle) == "b"


def test_when_nobody_wants_a_turn_there_is_none() -> None:
    with pytest.raises(KeyError):
        RoundRobin[str]().next()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
@given(wanted=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_each_member_gets_just_what_it_wants_and_nobody_is_passed_over_twice(wanted: list[int]) -> None:
    circle: RoundRobin[int] = RoundRobin()
    for member, turns in enumerate(wanted):
        circle.add(member, turns)
    given_out: list[int] = []
    while circle:
        given_out.append(circle.next())
        assert all(abs(given_out.count(one) - given_out.count(other)) <= 1 for one in circle for other in circle)
    assert [given_out.count(member) for member in range(len(wanted))] == wanted

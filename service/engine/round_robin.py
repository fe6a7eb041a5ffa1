"""Turns given out in a circle, so that a member who wants many cannot starve those who want one."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class RoundRobin(Generic[Member]):
    """Members who each want some turns. One turn at a time; whoever has had one and wants more goes to the back.

    With n members, each gets its next turn within the next n. All methods but iteration take constant time.
    """

    def __init__(self) -> None:
        self._wanted: OrderedDict[Member, int] = OrderedDict()
        self.changes = 0
        """How often a member has joined, left or had a turn."""

    def __len__(self) -> int:
        """How many members want at least one more turn."""
        return len(self._wanted)

    def __iter__(self) -> Iterator[Member]:
        """Members in the order of their next turns."""
        return iter(self._wanted)

    def turns(self, member: Member) -> int:
        """How many turns `member` still wants; 0 if it is not, or no longer, in the circle."""
        return self._wanted.get(member, 0)

    def add(self, member: Member, turns: int) -> None:
        """Let a new member join at the back, wanting `turns` turns (at least 1)."""
        self._wanted[member] = turns
        self.changes += 1

    def discard(self, member: Member) -> None:
        """Let a member leave, whatever it still wants; it need not be there."""
        self._wanted.pop(member, None)
        self.changes += 1

    def next(self) -> Member:
        """Return the member whose turn it is.

        Raises:
            KeyError: nobody wants a turn.
        """
        member, turns = self._wanted.popitem(last=False)
        self.changes += 1
        if turns > 1:
            self._wanted[member] = turns - 1
        return member

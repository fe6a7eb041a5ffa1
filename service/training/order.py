"""The order in which images are seen: the same whether or not a run was interrupted."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int, int]
"""(epoch, position in the epoch, view number): all that an item depends on, beside the configuration."""


class EpochOrder(Sampler[Key]):
    """Shuffled passes over `views` items, cut into epochs of `length` items; call `start(epoch)` before each epoch.

    Passes continue across epochs, so that even with short epochs every item is seen as often as any other. If `anew`,
    each epoch begins a new pass, so that an epoch no longer than a pass shows no item twice. With several processes
    each takes every `world`-th position, so that no two of them see the same item of a pass.
    """

    def __init__(
        self, views: int, *, length: int, seed: int, anew: bool = False, rank: int = 0, world: int = 1
    ) -> None:
        self._views, self._length, self._seed = views, length, seed
        self._stride = -(-length // views) * views if anew else length
        self._rank, self._world, self._epoch = rank, world, 0
        self._shuffle = -1
        self._order = np.arange(0)

    def start(self, epoch: int) -> None:
        """Make `epoch` the one that the next iteration draws."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(range(self._rank, self._length, self._world))

    def __iter__(self) -> Iterator[Key]:
        first = self._epoch * self._stride
        positions = range(self._rank, self._length, self._world)
        yield from ((self._epoch, position, self._item(first + position)) for position in positions)

    def _item(self, number: int) -> int:
        """Return the `number`-th of all items that the run sees."""
        shuffle, place = divmod(number, self._views)
        if shuffle != self._shuffle:
            self._shuffle = shuffle
            self._order = np.random.default_rng([self._seed, shuffle]).permutation(self._views)
        return int(self._order[place])

"""Decoded pairs kept in memory, up to a limit: a small data set is decoded once, a large one as often as it must be."""

from collections.abc import Iterator, Sequence

from service.imaging.placement import Image, Mask
from service.training.dataset import Pair, load


class PairCache:
    """Pairs by position. The first ones that fit into `limit_bytes` stay; all others are decoded on each call."""

    def __init__(self, pairs: Sequence[Pair], limit_bytes: float) -> None:
        self._pairs, self._room = pairs, limit_bytes
        self._kept: dict[int, tuple[Image, Mask]] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def __call__(self, index: int) -> tuple[Image, Mask]:
        """Return image, uint8 (H, W, 3), and mask, uint8 (H, W) of 0 and 1. Neither may be written to.

        Raises:
            BadDataset: a file can no longer be read.
        """
        return self._read(index)

    def fill(self) -> None:
        """Decode the first pairs that fit, as later calls would.

        Raises:
            BadDataset: a file can no longer be read.
        """
        for index in range(len(self)):
            self._read(index)
            if index not in self._kept:
                return

    @property
    def still_to_read(self) -> list[Pair]:
        """The pairs that are not kept: they are read from their files each time."""
        return [pair for index, pair in enumerate(self._pairs) if index not in self._kept]

    def named(self) -> Iterator[tuple[str, tuple[Image, Mask]]]:
        """Yield (name, (image, mask)) of every pair, in order."""
        for index, pair in enumerate(self._pairs):
            yield pair.name, self(index)

    def _read(self, index: int) -> tuple[Image, Mask]:
        if index in self._kept:
            return self._kept[index]
        image, mask = load(self._pairs[index])
        if (size := image.nbytes + mask.nbytes) <= self._room:
            self._room -= size
            self._kept[index] = image, mask
        return image, mask

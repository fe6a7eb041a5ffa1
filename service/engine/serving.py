"""What answers for one modality: one version at a time, and the one before it while that still owes answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from service.engine.image_work import Upload
from service.engine.segmenter import Segmentation, Segmenter, TileBatcher
from service.store.card import Card


async def _wide_enough() -> None:
    pass


class Version:
    """One checkpoint that answers: its segmenter, the batcher beneath it, and the uploads that it has begun.

    `widen` lets its batches hold more, as far as the device now has room for them.
    """

    def __init__(
        self, segmenter: Segmenter, batcher: TileBatcher, widen: Callable[[], Awaitable[None]] = _wide_enough
    ) -> None:
        self.segmenter, self.batcher, self.widen = segmenter, batcher, widen
        self._uploads = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from being retired within the block: an upload is on its way."""
        self._uploads += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._uploads -= 1
            if not self._uploads:
                self._idle.set()

    async def retire(self) -> None:
        """Return once it has answered every upload that it began. No new one may be given to it."""
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """Answer what is queued and refuse what is still being decoded; see `Batcher.__aexit__`."""
        await self.batcher.__aexit__(None, None, None)


class Serving:
    """Segments uploads of one modality with the version that serves at that moment; one must have been swapped in.

    An upload is prepared, run and described by one and the same version: the one that served when work on it began,
    however long its body took to arrive before, and whatever is swapped in afterwards.
    """

    def __init__(self) -> None:
        self._versions: list[Version] = []

    @property
    def card(self) -> Card:
        """The card of the version that serves now."""
        return self._current.segmenter.card

    @property
    def runs_on(self) -> str:
        """What runs the version that serves now; see `Engine.device`."""
        return self._current.segmenter.runs_on

    @property
    def queued(self) -> int:
        """Uploads that wait for the device, of all versions."""
        return sum(version.batcher.queued for version in self._versions)

    def admit(self, deadline: float | None, *, ahead: int = 0) -> None:
        """Return if an upload arriving now, behind `ahead` others, would be queued; else raise as `segment` would."""
        self._current.segmenter.admit(deadline, ahead=self._owed + ahead)

    async def segment(self, upload: Upload, *, arrived: float, deadline: float | None = None) -> Segmentation:
        """Return the answer to one upload, with the card of the version that gave it; see `Segmenter.segment`."""
        version = self._current
        with version.use():
            return await version.segmenter.segment(upload, arrived=arrived, deadline=deadline, ahead=self._owed)

    async def swap(self, new: Version) -> None:
        """Give every upload that begins from now on to `new`."""
        await new.batcher.__aenter__()
        self._versions.append(new)

    async def settle(self) -> None:
        """Return once all versions before the one that serves now have answered what they began and are released."""
        for old in self._versions[:-1]:
            await old.retire()
            self._versions.remove(old)

    async def widen(self) -> None:
        """Let batches of the version that serves now use the room that the version before it took up."""
        await self._current.widen()

    async def close(self) -> None:
        """Answer what is queued and refuse what is still being decoded. If cancelled, all still waiting are refused."""
        await asyncio.gather(*[version.close() for version in self._versions])

    @property
    def _owed(self) -> int:
        """Uploads that wait for the versions before the one that serves now; they count against its queue."""
        return sum(version.segmenter.waiting for version in self._versions[:-1])

    @property
    def _current(self) -> Version:
        return self._versions[-1]

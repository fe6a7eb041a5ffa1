"""Versions are read side by side, and built and warmed up one after another."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.engine import Engine
from service.engine.image_work import Upload
from service.engine.modality import Modality
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmentation
from service.engine.serving import Version
from service.engine.steps import Steps
from service.engine.version_maker import VersionMaker, join
from service.errors import ImageTooLarge, Overloaded
from service.settings import Settings
from service.store.model_store import Wanted
from tests.doubles import FakeEngine, Pixels, draw, fake_engine_card, png


class Counted:
    """A source whose reading ends when all have begun to be read; it counts the engines between start and warmth."""

    def __init__(self, versions: int, largest: int) -> None:
        self._all_read, self._largest = asyncio.Barrier(versions), largest
        self.unfinished = self.most = 0

    async def wanted(self, modality: str) -> Wanted:
        raise NotImplementedError(modality)

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:  # noqa: ARG002
        await self._all_read.wait()
        return self._build

    def warmed_up_with(self, batch_size: int) -> None:
        if batch_size == self._largest:
            self.unfinished -= 1

    def _build(self) -> Steps[Engine]:
        self.unfinished += 1
        self.most = max(self.most, self.unfinished)
        yield
        return Watched(self)


class Watched(FakeEngine):
    """Tells its source of every batch."""

    def __init__(self, source: Counted) -> None:
        super().__init__(fake_engine_card())
        self._source = source

    def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        self._source.warmed_up_with(len(tiles))
        return super().predict(tiles)


class Small(FakeEngine):
    """A device whose memory has no room for more than `fits` tiles."""

    fits = 2

    def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        if len(tiles) > self.fits:
            raise MemoryError
        time.sleep(0.01)
        return super().predict(tiles)


class Source:
    """Gives one engine."""

    def __init__(self) -> None:
        self.engine = Small(fake_engine_card())
        self.when_built: Callable[[], None] = lambda: None

    async def wanted(self, modality: str) -> Wanted:
        raise NotImplementedError(modality)

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:  # noqa: ARG002
        return self._build

    def _build(self) -> Steps[Engine]:
        for _ in range(10):
            self.when_built()
            yield
        return self.engine


@asynccontextmanager
async def makes_of(source: Source | Counted, **settings: object) -> AsyncIterator[VersionMaker]:
    """Give what makes versions of `source`, on a device of its own."""
    with PixelPool(1) as pool:
        async with Device("network") as device:
            asked = Settings.read({}, **settings)
            yield VersionMaker(asked, source, device=device, pool=pool, on_batch=lambda *_: None)


def test_batches_hold_what_the_warm_up_found_room_for_and_cost_what_it_took() -> None:
    async def main() -> None:
        async with makes_of(Source(), max_batch_size=8) as maker:
            batcher = (await maker.make(_retina(maker), "1")).batcher
        assert isinstance(batcher, Batcher)
        assert batcher.max_size == 2
        assert batcher._costs.seconds(1) >= 0.01

    asyncio.run(main())


@pytest.mark.parametrize(("fits", "hold"), [(5, 4), (100, 8), (2, 2), (1, 2), (0, 2)])
def test_batches_grow_with_the_room_that_the_version_before_has_left(fits: int, hold: int) -> None:
    async def main() -> None:
        source = Source()
        async with makes_of(source, max_batch_size=8) as maker:
            version = await maker.make(_retina(maker), "1")
            source.engine.fits = fits
            await version.widen()
        assert version.batcher.max_size == hold

    asyncio.run(main())


def test_a_version_that_found_room_for_all_is_not_warmed_up_again() -> None:
    async def main() -> None:
        source = Source()
        async with makes_of(source, max_batch_size=2) as maker:
            version = await maker.make(_retina(maker), "1")
            await version.widen()
        assert source.engine.batches == [1, 2]

    asyncio.run(main())


def test_batches_grow_only_once_no_other_version_is_built_or_warmed_up() -> None:
    async def main() -> None:
        source = Source()
        async with makes_of(source, max_batch_size=4) as maker:
            first = await maker.make(_retina(maker), "1")
            before, source.engine = source.engine, Small(fake_engine_card())
            before.fits = source.engine.fits = 4
            source.when_built = lambda: sizes.append(len(before.batches))
            making = asyncio.create_task(maker.make(_retina(maker), "2"))
            await asyncio.sleep(0)
            await first.widen()
            await making
        assert sizes == [2] * 10
        assert (before.batches, source.engine.batches) == ([1, 2, 1, 2, 4], [1, 2, 4])

    sizes: list[int] = []
    asyncio.run(main())


def test_what_runs_tile_by_tile_has_room_for_more_than_its_warm_up_ran() -> None:
    async def main() -> None:
        with PixelPool(1) as pool:
            async with Device("network") as device:
                settings, engine = Settings.read({}, max_batch_size=8), FakeEngine(fake_engine_card(), slots=2)
                version = join(engine, settings, device=device, pool=pool, max_queued=8, took={1: 0.01, 4: 0.03})
        assert isinstance(version.batcher, Batcher)
        assert version.batcher.max_size == 8

    asyncio.run(main())


def test_no_wait_for_batch_mates_is_longer_than_the_setting_says() -> None:
    async def main() -> None:
        with PixelPool(1) as pool:
            async with Device("network") as device:
                settings, engine = Settings.read({}, max_batch_wait_ms=20), FakeEngine(fake_engine_card())
                took = {1: 1.1, 8: 1.8}  # of which a second is the same for any size: so long would it wait
                version = join(engine, settings, device=device, pool=pool, max_queued=8, took=took)
        assert isinstance(version.batcher, Batcher)
        assert version.batcher._mates.give_up_at(oldest=7.0) == pytest.approx(7.02)

    asyncio.run(main())


def test_a_version_takes_as_many_uploads_and_as_large_ones_as_the_settings_say() -> None:
    async def main() -> None:
        async with makes_of(Source(), max_batch_size=2, max_queued=3, max_image_megapixels=0.004) as maker:
            version = await maker.make(_retina(maker), "1")
            async with version.batcher:
                version.segmenter.admit(None, ahead=2)
                with pytest.raises(Overloaded):
                    version.segmenter.admit(None, ahead=3)
                assert (await segment(version, height=62)).height == 62
                with pytest.raises(ImageTooLarge):
                    await segment(version, height=63)

    async def segment(version: Version, height: int) -> Segmentation:
        upload = Upload(image=png(draw(height=height, width=64)))
        return await version.segmenter.segment(upload, arrived=asyncio.get_running_loop().time())

    asyncio.run(main())


def _retina(maker: VersionMaker) -> Modality:
    return Modality("retina", is_required=True, load=maker.make, on_checkpoint=lambda *_: None, give_back=_nothing)


async def _nothing() -> None:
    pass


def test_no_two_versions_are_built_or_warmed_up_at_a_time() -> None:
    async def main() -> Counted:
        source = Counted(versions=3, largest=4)
        async with makes_of(source, max_batch_size=4) as maker:
            made = await asyncio.gather(*[maker.make(_retina(maker), name) for name in "123"])
        assert len(set(made)) == 3
        return source

    source = asyncio.run(main())
    assert (source.most, source.unfinished) == (1, 0)

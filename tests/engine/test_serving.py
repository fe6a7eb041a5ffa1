"""One queue's limit for all versions of a modality that still owe answers."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.image_work import Upload
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmentation, Segmenter
from service.engine.serving import Serving, Version
from service.errors import DeadlineExceeded, Overloaded, ShuttingDown
from tests.doubles import FakeEngine, draw, fake_engine_card, png
from tests.waiting import until

IMAGE = png(draw())
MOST = 3


class Swapped:
    """A modality of which version 1 is served at first, and no more than MOST uploads may wait; batches are of one."""

    def __init__(self, device: Device, pool: PixelPool) -> None:
        self.gate, self.serving = threading.Event(), Serving()
        self.engines: list[FakeEngine] = []
        self._device, self.pool = device, pool

    def version(self, name: str) -> Version:
        engine = FakeEngine(fake_engine_card(version=name), gate=self.gate)
        self.engines.append(engine)
        batcher = Batcher(engine.predict, device=self._device, max_size=1, max_wait_s=0.0, max_queued=MOST)
        return Version(Segmenter(engine, batcher, pool=self.pool, max_pixels=1_000_000), batcher)

    async def ask(self, uploads: int, *, waiting: int) -> list[asyncio.Task[Segmentation]]:
        """Let so many come, and return once one runs and `waiting` are in the queue in all."""
        calls = [asyncio.create_task(self.segment()) for _ in range(uploads)]
        await until(lambda: any(engine.batches for engine in self.engines) and self.serving.queued == waiting)
        return calls

    async def is_refused(self) -> bool:
        """Say whether one that came now would be refused; asked beforehand or sent, it must be the same."""
        try:
            self.serving.admit(None)
        except Overloaded:
            with pytest.raises(Overloaded):
                await self.segment()
            return True
        return False

    async def segment(self) -> Segmentation:
        """Let one come."""
        return await self.serving.segment(Upload(image=IMAGE), arrived=asyncio.get_running_loop().time())


@asynccontextmanager
async def modality() -> AsyncIterator[Swapped]:
    with PixelPool(2) as pool:
        async with Device("test") as device:
            swapped = Swapped(device, pool)
            await swapped.serving.swap(swapped.version("1"))
            try:
                yield swapped
            finally:
                swapped.gate.set()
                await swapped.serving.close()


def test_what_an_older_version_still_has_to_run_counts_against_the_queue() -> None:
    async def main() -> None:
        async with modality() as swapped:
            calls = await swapped.ask(MOST, waiting=MOST - 1)
            await swapped.serving.swap(swapped.version("2"))
            assert not await swapped.is_refused()
            calls += await swapped.ask(1, waiting=MOST)
            assert await swapped.is_refused()
            swapped.gate.set()
            versions = [(await call).card.version for call in calls]
            assert versions == ["1"] * MOST + ["2"]

    asyncio.run(main())


def test_those_still_on_their_way_count_beside_what_an_older_version_has_to_run() -> None:
    async def main() -> None:
        async with modality() as swapped:
            calls = await swapped.ask(MOST, waiting=MOST - 1)
            await swapped.serving.swap(swapped.version("2"))
            swapped.serving.admit(None)
            with pytest.raises(Overloaded, match=f"{MOST} uploads wait already"):
                swapped.serving.admit(None, ahead=1)
            swapped.gate.set()
            await asyncio.gather(*calls)
            swapped.serving.admit(None, ahead=MOST - 1)

    asyncio.run(main())


def test_an_older_version_that_only_runs_what_it_has_begun_takes_nobodys_place() -> None:
    async def main() -> None:
        async with modality() as swapped:
            calls = await swapped.ask(1, waiting=0)
            await swapped.serving.swap(swapped.version("2"))
            calls += await swapped.ask(MOST, waiting=MOST)
            assert await swapped.is_refused()
            swapped.gate.set()
            await asyncio.gather(*calls, swapped.serving.settle())
            assert not await swapped.is_refused()

    asyncio.run(main())


def test_what_an_older_version_still_decodes_counts_and_makes_room_when_its_callers_leave() -> None:
    async def main() -> None:
        busy = threading.Event()
        async with modality() as swapped:
            held = [asyncio.create_task(swapped.pool.run(lambda: busy.wait(60))) for _ in range(2)]
            await asyncio.sleep(0)
            decoding = [asyncio.create_task(swapped.segment()) for _ in range(MOST)]
            await asyncio.sleep(0)
            await swapped.serving.swap(swapped.version("2"))
            assert await swapped.is_refused()
            for call in decoding:
                call.cancel()
            await asyncio.gather(*decoding, return_exceptions=True)
            assert not await swapped.is_refused()
            busy.set()
            await asyncio.gather(*held)

    asyncio.run(main())


def test_an_older_version_answers_what_it_still_decodes_before_it_is_let_go() -> None:
    async def main() -> None:
        busy = threading.Event()
        async with modality() as swapped:
            swapped.gate.set()
            held = [asyncio.create_task(swapped.pool.run(lambda: busy.wait(60))) for _ in range(2)]
            await asyncio.sleep(0)
            calls = [asyncio.create_task(swapped.segment()) for _ in range(2)]
            await asyncio.sleep(0)
            await swapped.serving.swap(swapped.version("2"))
            settling = asyncio.create_task(swapped.serving.settle())
            await asyncio.sleep(0.01)
            busy.set()
            assert [(await call).card.version for call in calls] == ["1", "1"]
            await asyncio.gather(settling, *held)
            assert [version.segmenter.card.version for version in swapped.serving._versions] == ["2"]

    asyncio.run(main())


def test_a_deadline_that_has_passed_is_told_before_anything_is_queued() -> None:
    async def main() -> None:
        async with modality() as swapped:
            swapped.gate.set()
            passed = asyncio.get_running_loop().time()
            with pytest.raises(DeadlineExceeded):
                swapped.serving.admit(passed)
            with pytest.raises(DeadlineExceeded):
                await swapped.serving.segment(Upload(image=IMAGE), arrived=passed, deadline=passed)
            assert swapped.engines[0].batches == []

    asyncio.run(main())


def test_a_version_is_kept_until_the_last_of_its_uploads_has_its_answer() -> None:
    async def main() -> None:
        async with modality() as swapped:
            old = swapped.serving._current
            with old.use():
                with old.use():
                    await swapped.serving.swap(swapped.version("2"))
                    settling = asyncio.create_task(swapped.serving.settle())
                await asyncio.sleep(0.05)
                assert not settling.done()
            await settling

    asyncio.run(main())


def test_both_versions_answer_what_they_owe_when_the_modality_closes() -> None:
    async def main() -> None:
        async with modality() as swapped:
            calls = await swapped.ask(2, waiting=1)
            await swapped.serving.swap(swapped.version("2"))
            newer = asyncio.create_task(swapped.segment())
            await until(lambda: swapped.serving.queued == 2)
            closing = asyncio.create_task(swapped.serving.close())
            await asyncio.sleep(0.05)
            with pytest.raises(ShuttingDown):
                await swapped.segment()
            assert not closing.done()
            swapped.gate.set()
            assert [(await call).card.version for call in [*calls, newer]] == ["1", "1", "2"]
            await closing
            with pytest.raises(ShuttingDown):
                await swapped.serving._versions[0].batcher.submit([draw()])

    asyncio.run(main())

"""From what the store asks for to a version that is ready to serve."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from service.engine.batcher import Batcher, BatchReport
from service.engine.device import Device
from service.engine.engine import Engine, checked_predict, side_by_side
from service.engine.loading import warm_up
from service.engine.modality import Modality
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmenter, TileBatcher
from service.engine.serving import Version
from service.engine.source import Source
from service.engine.steps import in_turns
from service.errors import reason
from service.settings import Settings

log = logging.getLogger(__name__)


class VersionMaker:
    """Makes versions: reads several at a time, but builds and warms up one by one, as the device has room for one."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        *,
        device: Device,
        pool: PixelPool,
        on_batch: Callable[[str, BatchReport], None],
    ) -> None:
        self._settings, self._source = settings, source
        self._device, self._pool, self._on_batch = device, pool, on_batch
        self._building = asyncio.Lock()

    async def make(self, modality: Modality, name: str) -> Version:
        """Return a version that is verified, compared with its probe and warm.

        Raises:
            BadCheckpoint: it is damaged, or does not reproduce its probe.
            EngineFailed: its engine cannot be run, or breaks the contract.
            Exception: whatever else the engine's library raises.
        """
        settings = self._settings
        building = await self._source.read(modality, name)
        async with self._building:
            engine = await in_turns(building(), self._device)
            took = await warm_up(engine, self._device, settings.max_batch_size)
        on_batch = partial(self._on_batch, modality.name)
        version = join(
            engine,
            settings,
            device=self._device,
            pool=self._pool,
            max_queued=settings.max_queued,
            took=took,
            on_batch=on_batch,
        )
        version.widen = partial(self._widen, engine, version.batcher)
        return version

    async def _widen(self, engine: Engine, batcher: TileBatcher) -> None:
        """Warm up once more, for batches that were too large for the memory that the version before left free."""
        if batcher.max_size >= self._settings.max_batch_size:
            return
        async with self._building:
            try:
                took = await warm_up(engine, self._device, self._settings.max_batch_size)
            except Exception as error:  # noqa: BLE001 - what was found before the swap still holds
                log.warning("%s: batches stay as small as they are: %s", engine.card.modality, reason(error))
                return
        batcher.widen(max(took))


def join(
    engine: Engine,
    settings: Settings,
    *,
    device: Device,
    pool: PixelPool,
    max_queued: int,
    took: Mapping[int, float] | None = None,
    on_batch: Callable[[BatchReport], None] = lambda _: None,
) -> Version:
    """Return a version of `engine`, its batcher not open yet; `took` is what its warm-up took, if it had one."""
    beside = side_by_side(engine)  # what runs tile by tile has room for any batch
    batcher: TileBatcher = Batcher(
        partial(checked_predict, engine),
        side_by_side=beside,
        device=device,
        max_size=max(took) if took and beside is None else settings.max_batch_size,
        first_costs=took,
        max_wait_s=settings.max_batch_wait_ms / 1000,
        max_queued=max_queued,
        on_batch=on_batch,
    )
    return Version(Segmenter(engine, batcher, pool=pool, max_pixels=settings.max_pixels), batcher)

"""From what the store asks for to a version that is ready to serve."""

import asyncio
from collections.abc import Callable
from functools import partial

from service.engine.batcher import Batcher, BatchReport
from service.engine.device import Device
from service.engine.engine import checked_predict, side_by_side
from service.engine.loading import warm_up
from service.engine.modality import Modality
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmenter, TileBatcher
from service.engine.serving import Version
from service.engine.source import Source
from service.engine.steps import in_turns
from service.settings import Settings


class VersionMaker:
    """Makes versions, read side by side, and built and warmed up one after another: the device has room for one."""

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
        batcher: TileBatcher = Batcher(
            partial(checked_predict, engine),
            side_by_side=side_by_side(engine),
            device=self._device,
            max_size=max(took),
            first_costs=took,
            max_wait_s=settings.max_batch_wait_ms / 1000,
            max_queued=settings.max_queued,
            on_batch=partial(self._on_batch, modality.name),
        )
        max_pixels = int(settings.max_image_megapixels * 1_000_000)
        return Version(Segmenter(engine, batcher, pool=self._pool, max_pixels=max_pixels), batcher)

"""Upload to mask: everything that happens to one image, for the service and the command line alike. Knows no HTTP."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.batcher import Batcher, too_late
from service.engine.cautions import Caution
from service.engine.engine import Engine
from service.engine.image_work import Finished, ImageWork, Prepared, Upload
from service.engine.memory import is_out_of_memory, release
from service.engine.pixel_pool import PixelPool
from service.errors import MemoryShort
from service.imaging.components import LeftOut
from service.store.card import Card

TileBatcher = Batcher[NDArray[np.uint8], NDArray[np.uint8]]
"""Tiles of uint8 (h, w, 3) in, probability maps of uint8 (h, w) out."""

MEMORY_SHORT = "memory is too short for this upload now; send it again in a moment, or a smaller one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds that one upload spent in each stage; `total` counts from its arrival."""

    decode: float
    queue: float
    inference: float
    postprocess: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """The answer to one upload, and the card of the checkpoint that gave it.

    Both PNGs are 8-bit grey on the upload's own grid (height × width, EXIF applied).
    """

    card: Card
    width: int
    height: int
    image_format: str
    mask_png: bytes
    probability_png: bytes | None
    threshold: float
    area_px: int
    left_out: LeftOut
    measured_iou: float | None
    accuracy: float | None
    expected_iou: float
    latency: Latency
    batch_size: int
    cautions: tuple[Caution, ...]

    @property
    def area_fraction(self) -> float:
        """The share of the image's pixels that is foreground."""
        return self.area_px / (self.width * self.height)


class Segmenter:
    """Segments uploads of one modality: decode → fit → batch → restore → describe.

    Decoding and encoding run in `pool`, so they never block the event loop, and small images never wait for large ones.
    Uploads of any size are laid on the card's grid, so they can share a batch. `max_pixels` limits an image by its
    header.
    """

    def __init__(self, engine: Engine, batcher: TileBatcher, *, pool: PixelPool, max_pixels: int) -> None:
        self.card: Card = engine.card
        self.runs_on = engine.device
        self._batcher, self._pool = batcher, pool
        self._work = ImageWork(engine.card, max_pixels=max_pixels)
        self._decoding = 0

    @property
    def waiting(self) -> int:
        """Uploads that are being decoded or wait for the device."""
        return self._decoding + self._batcher.queued

    def admit(self, deadline: float | None, *, ahead: int = 0) -> None:
        """Return if an upload arriving now, behind `ahead` others, would be queued; else raise as `segment` would."""
        self._batcher.admit(deadline, ahead=self._decoding + ahead)

    async def segment(
        self, upload: Upload, *, arrived: float, deadline: float | None = None, ahead: int = 0
    ) -> Segmentation:
        """Return the answer to one upload. `arrived` and `deadline` are times of the event loop's clock.

        Raises:
            BadUpload: the image or reference cannot be used; raised before anything is queued.
            Overloaded: as many uploads as allowed wait or are being decoded, counting `ahead` others elsewhere.
            DeadlineExceeded: the deadline passed; raised at that moment.
            MemoryShort: there was no memory to decode the upload or to make its answer; what it held is freed.
            ShuttingDown, DeviceLost, EngineFailed: see `Batcher.submit`.
        """
        self.admit(deadline, ahead=ahead)
        try:
            async with asyncio.timeout_at(deadline):  # may fire late: so `submit` checks the deadline, too
                return await self._segment(upload, arrived, deadline)
        except TimeoutError as error:
            raise too_late() from error
        except (MemoryError, SystemError) as error:
            if not is_out_of_memory(error):
                raise
            release(error)
            raise MemoryShort(MEMORY_SHORT) from None

    async def _segment(self, upload: Upload, arrived: float, deadline: float | None) -> Segmentation:
        clock = time.monotonic  # the event loop's time, more finely: uvloop's own advances in steps of a millisecond
        started = clock()
        prepared = await self._decode(upload)
        submitted = clock()
        answer = await self._batcher.submit(prepared.tiles, deadline=deadline, since=started)
        answered = clock()
        prepared.tiles.clear()  # the batcher no longer counts them, and the wait for a thread may be long
        finished = await self._pool.run(
            lambda: self._work.after(upload, prepared, answer.results), is_long=lambda: prepared.is_large, ends=True
        )
        latency = Latency(
            decode=submitted - started,
            queue=answer.queued_s,
            inference=answered - submitted - answer.queued_s,
            postprocess=clock() - answered,
            total=clock() - arrived,
        )
        return self._described(prepared, finished, latency, answer.batch_size)

    def _described(self, prepared: Prepared, finished: Finished, latency: Latency, batch_size: int) -> Segmentation:
        """Return the answer without the tiles: it may be long before its caller has taken it."""
        height, width = prepared.placement.source
        return Segmentation(
            card=self.card,
            width=width,
            height=height,
            image_format=prepared.image_format,
            mask_png=finished.mask_png,
            probability_png=finished.probability_png,
            threshold=finished.threshold,
            area_px=finished.area_px,
            left_out=finished.left_out,
            measured_iou=finished.measured.iou if finished.measured else None,
            accuracy=finished.measured.accuracy if finished.measured else None,
            expected_iou=finished.expected_iou,
            latency=latency,
            batch_size=batch_size,
            cautions=prepared.cautions + finished.cautions,
        )

    async def _decode(self, upload: Upload) -> Prepared:
        self._decoding += 1
        try:
            return await self._pool.run(lambda: self._work.before(upload), is_long=lambda: self._work.is_large(upload))
        finally:
            self._decoding -= 1

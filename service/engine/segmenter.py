"""Upload to mask: everything that happens to one image, for the service and the command line alike. Knows no HTTP."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.engine.batcher import Batcher
from service.engine.engine import Engine
from service.engine.quality import Agreement, Probability, agreement, expected_iou, foreground
from service.errors import BadCheckpoint, BadUpload, DeadlineExceeded, FrameNeeded, ReferenceMismatch, ShuttingDown
from service.imaging.decode import Decoded, DecodedMask, decode, decode_mask
from service.imaging.encode import encode_png
from service.imaging.placement import Placement, prepare, restore
from service.imaging.statistics import FEATURES, Likeness
from service.store.card import Card, TrainingImages

T = TypeVar("T")

TileBatcher = Batcher[NDArray[np.uint8], NDArray[np.uint8]]
"""Tiles of uint8 (h, w, 3) in, probability maps of uint8 (h, w) out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a caller sends and asks for. `threshold` None means the checkpoint's."""

    image: bytes
    reference: bytes | None = None
    threshold: float | None = None
    frame: int | None = None
    probability: bool = False


@dataclass(frozen=True, slots=True)
class Caution:
    """Something the caller should know about an answer that was given all the same."""

    code: str
    message: str


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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An upload that is fit to be queued. Its own pixels are let go: many may wait, and each may be large."""

    image_format: str
    reference: DecodedMask | None
    placement: Placement
    tiles: list[NDArray[np.uint8]]
    cautions: tuple[Caution, ...]


@dataclass(frozen=True, slots=True)
class _Finished:
    """What is known of an upload once its probabilities are back on its own grid."""

    mask_png: bytes
    probability_png: bytes | None
    area_px: int
    measured: Agreement | None
    expected_iou: float
    cautions: tuple[Caution, ...]


class Segmenter:
    """Segments uploads of one modality: decode → fit → batch → restore → describe.

    Decoding and encoding run in `pool`; the event loop only waits. Uploads of any size share the card's grid, and with
    it the batches. `max_pixels` limits an image, from its header.
    """

    def __init__(self, engine: Engine, batcher: TileBatcher, *, pool: Executor, max_pixels: int) -> None:
        self.card: Card = engine.card
        self._batcher, self._pool, self._max_pixels = batcher, pool, max_pixels
        self._likeness = likeness(engine.card.training_images)
        self._decoding = 0

    def admit(self, deadline: float | None) -> None:
        """Return if an upload that came now would be queued; else raise what `segment` would."""
        self._batcher.admit(deadline, ahead=self._decoding)

    async def segment(self, upload: Upload, *, arrived: float, deadline: float | None = None) -> Segmentation:
        """Return the answer to one upload. `arrived` and `deadline` are times of the event loop's clock.

        Raises:
            BadUpload: image or reference cannot be used; found before anything is queued.
            Overloaded: as many uploads as are allowed wait or are being decoded.
            DeadlineExceeded: the deadline passed; raised at that moment.
            ShuttingDown, DeviceLost, EngineFailed: see `Batcher.submit`.
        """
        self.admit(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._segment(upload, arrived, deadline)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before there was an answer; allow more time") from error

    async def _segment(self, upload: Upload, arrived: float, deadline: float | None) -> Segmentation:
        clock = time.monotonic  # the event loop's clock, but finely: uvloop's own goes in steps of a millisecond
        started = clock()
        prepared = await self._decode(upload)
        submitted = clock()
        answer = await self._batcher.submit(prepared.tiles, deadline=deadline)
        answered = clock()
        threshold = self.card.threshold if upload.threshold is None else upload.threshold
        finished = await self._in_pool(lambda: self._after(upload, prepared, answer.results, threshold))
        ended = clock()
        height, width = prepared.placement.source
        return Segmentation(
            card=self.card,
            width=width,
            height=height,
            image_format=prepared.image_format,
            mask_png=finished.mask_png,
            probability_png=finished.probability_png,
            threshold=threshold,
            area_px=finished.area_px,
            measured_iou=finished.measured.iou if finished.measured else None,
            accuracy=finished.measured.accuracy if finished.measured else None,
            expected_iou=finished.expected_iou,
            latency=Latency(
                decode=submitted - started,
                queue=answer.queued_s,
                inference=answered - submitted - answer.queued_s,
                postprocess=ended - answered,
                total=ended - arrived,
            ),
            batch_size=answer.batch_size,
            cautions=prepared.cautions + finished.cautions,
        )

    async def _decode(self, upload: Upload) -> _Prepared:
        self._decoding += 1
        try:
            return await self._in_pool(lambda: self._before(upload))
        finally:
            self._decoding -= 1

    async def _in_pool(self, work: Callable[[], T]) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        except RuntimeError as error:  # the pool was shut down
            raise ShuttingDown("this replica has stopped; another one may answer") from error
        return await running

    def _before(self, upload: Upload) -> _Prepared:
        decoded = decode(upload.image, max_pixels=self._max_pixels, frame=upload.frame)
        reference = self._reference(upload, decoded)
        placement, tiles = prepare(decoded.pixels, self.card.input)
        cautions = []
        if (distance := self._likeness.distance(decoded.pixels)) > self._likeness.limit:
            cautions.append(_unlike(self.card, distance / self._likeness.limit))
        if reference is not None and not reference.is_binary:
            cautions.append(NOT_BINARY)
        return _Prepared(decoded.format, reference, placement, tiles, tuple(cautions))

    def _reference(self, upload: Upload, decoded: Decoded) -> DecodedMask | None:
        if upload.reference is None:
            return None
        try:
            reference = self._decode_reference(upload.reference, upload.frame)
        except BadUpload as error:
            raise type(error)(f"in the reference: {error}") from error
        if reference.mask.shape != decoded.pixels.shape[:2]:
            (height, width), (rows, columns) = decoded.pixels.shape[:2], reference.mask.shape
            raise ReferenceMismatch(f"the reference is {columns} × {rows} pixels, the image {width} × {height}")
        return reference

    def _decode_reference(self, content: bytes, frame: int | None) -> DecodedMask:
        """Decode a mask; of a stack of masks, the frame that was picked of the stack of images."""
        try:
            return decode_mask(content, max_pixels=self._max_pixels)
        except FrameNeeded:
            if frame is None:
                raise
            return decode_mask(content, max_pixels=self._max_pixels, frame=frame)

    def _after(
        self, upload: Upload, prepared: _Prepared, maps: Sequence[NDArray[np.uint8]], threshold: float
    ) -> _Finished:
        probability: Probability = restore(maps, prepared.placement, self.card.input)
        mask = foreground(probability, threshold)
        reference = prepared.reference
        measured = agreement(mask, reference.mask) if reference else None
        both_empty = reference is not None and not mask.any() and not reference.mask.any()
        return _Finished(
            mask_png=encode_png(mask.view(np.uint8) * np.uint8(255)),
            probability_png=encode_png(probability) if upload.probability else None,
            area_px=int(np.count_nonzero(mask)),
            measured=measured,
            expected_iou=expected_iou(probability, threshold, self.card.expected_iou),
            cautions=(BOTH_EMPTY,) if both_empty else (),
        )


NOT_BINARY = Caution(
    "reference_not_binary", "the reference has more than two levels; those from half of the range up were taken as true"
)
BOTH_EMPTY = Caution("both_masks_empty", "neither mask nor reference has any foreground: the measured IoU of 1 says so")
CODES = ("unlike_training_images", NOT_BINARY.code, BOTH_EMPTY.code)
"""Every code a Caution can have."""


def _unlike(card: Card, times: float) -> Caution:
    message = f"this image is unlike the {card.modality} images of the training ({times:.1f} times their limit)"
    return Caution(CODES[0], f"{message}: do not trust the mask")


def likeness(statistics: TrainingImages) -> Likeness:
    """Return what tells images unlike the training images from others, as the card records it.

    Raises:
        BadCheckpoint: the card's features are not those that this version computes.
    """
    if statistics.features != FEATURES:
        raise BadCheckpoint("the card's training_images have other features than this version computes; train anew")
    return Likeness(np.array(statistics.mean), np.array(statistics.scale), statistics.limit)

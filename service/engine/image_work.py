"""What is done to one upload before and after the network, in a worker thread: decode → fit, and restore → describe.

Bytes and pixels only: knows no engine, no queue, no event loop.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.engine.cautions import BOTH_EMPTY, NOT_BINARY, Caution, unlike_images, unlike_masks
from service.engine.quality import (
    Agreement,
    LevelCounts,
    MaskRule,
    Probability,
    agreement,
    expected_iou,
    foreground,
    level_counts,
    lowest_level,
)
from service.errors import BadCheckpoint, BadUpload, FrameNeeded, ReferenceMismatch
from service.imaging.components import LeftOut
from service.imaging.decode import Decoded, DecodedMask, decode, decode_mask
from service.imaging.encode import encode_png
from service.imaging.opening import pixels_to_decode
from service.imaging.placement import Placement, glimpse, prepare, restore
from service.imaging.share import UsualShare, share_of
from service.imaging.statistics import FEATURES, Likeness
from service.store.card import Card, TrainingImages

LARGE_PIXELS = 2_000_000
"""Up to this size decoding and fitting, or restoring and encoding, take a thread about 0.1 s at most: short enough for
others to wait. 40 megapixels take up to 4 s. Most images for the shipped checkpoints are smaller; photographs of skin
may be larger."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a caller sends and asks for. `threshold` None means the checkpoint's; `all_components` leaves none out."""

    image: bytes
    reference: bytes | None = None
    threshold: float | None = None
    frame: int | None = None
    probability: bool = False
    all_components: bool = False


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask, bool `shape`, as eight pixels a byte: one of 40 megapixels may come in 40 kB, and many may wait."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Pack a mask (H, W)."""
        return cls(np.packbits(mask), (mask.shape[0], mask.shape[1]))

    def unpacked(self) -> NDArray[np.bool_]:
        """Return the mask, bool (H, W)."""
        height, width = self.shape
        return np.unpackbits(self.bits, count=height * width).view(np.bool_).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An upload that is ready to be queued. Its own pixels are not kept: many may wait, and each may be large.

    `reference` is its reference mask. `is_large` tells whether `after` will keep a thread busy for long.
    """

    image_format: str
    reference: PackedMask | None
    placement: Placement
    tiles: list[NDArray[np.uint8]]
    cautions: tuple[Caution, ...]
    is_large: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """What is known of an upload once its probabilities are back on its own grid."""

    mask_png: bytes
    probability_png: bytes | None
    threshold: float
    area_px: int
    left_out: LeftOut
    measured: Agreement | None
    expected_iou: float
    cautions: tuple[Caution, ...]


class ImageWork:
    """Everything that happens to uploads of one modality before and after the network; `max_pixels` limits an image.

    Safe to call from many threads at once.
    """

    def __init__(self, card: Card, *, max_pixels: int) -> None:
        self._card, self._max_pixels, self._rule = card, max_pixels, MaskRule.of(card)
        self._tile = card.input.grid if card.input.kind == "tile" else None
        self._likeness = likeness(card.training_images)
        masks = card.training_masks
        self._usual_share = UsualShare(masks.least, masks.most) if masks else UsualShare(0, 1)

    def is_large(self, upload: Upload) -> bool:
        """Whether decoding an upload, in `before`, will keep a thread busy for long. Decodes nothing itself.

        Raises:
            BadUpload: the header of the image or reference already shows that it cannot be used.
        """
        pixels = self._pixels_to_decode(upload.image, upload.frame)
        if upload.reference is not None:
            pixels = max(pixels, _of_reference(self._pixels_to_decode, upload.reference, upload.frame))
        return pixels > LARGE_PIXELS

    def before(self, upload: Upload) -> Prepared:
        """Decode an upload and lay it on the network's grid.

        Raises:
            BadUpload: the image or reference cannot be used.
        """
        decoded = decode(upload.image, max_pixels=self._max_pixels, frame=upload.frame)
        reference = self._reference(upload, decoded)
        placement, tiles = prepare(decoded.pixels, self._card.input)
        cautions = []
        if (distance := self._likeness.distance(glimpse(decoded.pixels, placement))) > self._likeness.limit:
            cautions.append(unlike_images(self._card, distance / self._likeness.limit))
        if reference is not None and not reference.is_binary:
            cautions.append(NOT_BINARY)
        joined = placement.canvas if len(tiles) > 1 else placement.source
        is_large = max(math.prod(placement.source), math.prod(joined)) > LARGE_PIXELS
        packed = None if reference is None else PackedMask.of(reference.mask)
        return Prepared(decoded.format, packed, placement, tiles, tuple(cautions), is_large)

    def after(self, upload: Upload, prepared: Prepared, maps: Sequence[NDArray[np.uint8]]) -> Finished:
        """Bring an upload's probability maps, one for each of its tiles, back to its own grid, and describe the mask.

        `maps` are uint8 (h, w), 255 × probability; from the upload's threshold up a pixel is foreground.
        """
        rule = MaskRule.of(self._card, upload.threshold, all_components=upload.all_components)
        probability: Probability = restore(maps, prepared.placement, self._card.input)
        kept, left_out = rule.kept(probability)
        mask = foreground(kept, rule.threshold)
        reference = None if prepared.reference is None else prepared.reference.unpacked()
        measured = None if reference is None else agreement(mask, reference)
        both_empty = reference is not None and not mask.any() and not reference.any()
        counts = level_counts(kept)
        usual = counts if rule == self._rule else level_counts(self._rule.kept(probability)[0])
        return Finished(
            mask_png=encode_png(mask.view(np.uint8) * np.uint8(255)),
            probability_png=encode_png(probability) if upload.probability else None,
            threshold=rule.threshold,
            area_px=int(np.count_nonzero(mask)),
            left_out=left_out,
            measured=measured,
            expected_iou=expected_iou(counts, rule.threshold, self._card.expected_iou),
            cautions=self._of_the_share(usual, prepared.placement) + ((BOTH_EMPTY,) if both_empty else ()),
        )

    def _of_the_share(self, counts: LevelCounts, placement: Placement) -> tuple[Caution, ...]:
        """Judge the share of the checkpoint's own mask, whatever the caller's rule: training masks were like that."""
        share = share_of(int(counts[lowest_level(self._rule.threshold) :].sum()), placement)
        usual = self._usual_share.of_picture(placement, self._card.input)
        return () if usual.has(share) else (unlike_masks(self._card, share, usual),)

    def _reference(self, upload: Upload, decoded: Decoded) -> DecodedMask | None:
        if upload.reference is None:
            return None
        reference = _of_reference(self._decode_mask, upload.reference, upload.frame)
        if reference.mask.shape != decoded.pixels.shape[:2]:
            (height, width), (rows, columns) = decoded.pixels.shape[:2], reference.mask.shape
            raise ReferenceMismatch(f"the reference is {columns} × {rows} pixels, the image {width} × {height}")
        return reference

    def _pixels_to_decode(self, content: bytes, frame: int | None) -> int:
        return pixels_to_decode(content, max_pixels=self._max_pixels, frame=frame, tile=self._tile)

    def _decode_mask(self, content: bytes, frame: int | None) -> DecodedMask:
        return decode_mask(content, max_pixels=self._max_pixels, frame=frame)


def _of_reference(read: Callable[[bytes, int | None], T], content: bytes, frame: int | None) -> T:
    """Read a reference; of a stack of masks, read the frame that was picked from the stack of images.

    The image has been checked before: if no frame was picked, it has only one.
    """
    try:
        try:
            return read(content, None)
        except FrameNeeded:
            if frame is None:
                raise FrameNeeded("it has several frames, the image one; send only what belongs to it") from None
            return read(content, frame)
    except BadUpload as error:
        raise type(error)(f"in the reference: {error}") from error


def likeness(statistics: TrainingImages) -> Likeness:
    """Return what recognises images unlike the training images, by the card's `statistics` of those.

    Raises:
        BadCheckpoint: the card's features are not those that this version computes.
    """
    if statistics.features != FEATURES:
        raise BadCheckpoint("the card's training_images have other features than this version computes; train anew")
    return Likeness(np.array(statistics.mean), np.array(statistics.scale), statistics.limit)

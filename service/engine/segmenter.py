"""Upload to mask: everything that happens to one image, for the service and the command line alike. Knows no HTTP."""

from dataclasses import dataclass
from typing import Protocol

from service.store.card import Card


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
    """The answer to one upload. Both PNGs are 8-bit grey on the upload's own grid (height × width, EXIF applied)."""

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

"""From masks and probabilities to PNG bytes, and to previews."""

import io
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.placement import Image, Mask


def encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit grey PNG of uint8 (H, W), without any metadata chunk. Masks are 0 and 255.

    Run lengths alone (Z_RLE) were measured against zlib's levels 0 to 9: for masks and probability maps of 512 × 512 to
    4096 × 4096 they are as small as level 6 and as quick as level 1 (masks of 700 × 605: 12 kB in 2.5 ms, against 13 kB
    in 4.4 ms and 20 kB in 2.7 ms).
    """
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(np.ascontiguousarray(grey))
    picture.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def overlay(image: Image, mask: Mask, *, colour: tuple[int, int, int] = (0, 220, 120), alpha: float = 0.35) -> Image:
    """Return a copy of `image`, uint8 (H, W, 3), with `mask` (H, W; not 0 is foreground) tinted and outlined."""
    inside = mask > 0
    outline = inside & ~_eroded(inside)
    tint = np.array(colour, np.float32)
    drawn = image.copy()
    drawn[inside] = np.rint(image[inside] * np.float32(1 - alpha) + tint * np.float32(alpha)).astype(np.uint8)
    drawn[outline] = colour
    return drawn


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the foreground pixels whose four neighbours are foreground too; beyond the border counts as foreground."""
    framed = np.pad(inside, 1, constant_values=True)
    return framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]

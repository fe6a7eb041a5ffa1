"""Masks in GIF, as DRIVE has them of its vessels. Images in GIF are not read: they have too few colours."""

import io

from PIL import GifImagePlugin

from service.errors import FrameNeeded, ImageTooLarge
from service.imaging.opening import typed_errors
from service.training.pairs import MAX_PIXELS

SUFFIX = ".gif"
_SIGNATURES = (b"GIF87a", b"GIF89a")


def without_gif(mask: bytes) -> bytes:
    """Return a mask that is a GIF as PNG of the same colours and transparency, and any other file as it is.

    Raises:
        DamagedImage: it is truncated or broken.
        ImageTooLarge: it has more than `MAX_PIXELS`.
        FrameNeeded: it has several frames.
    """
    if not mask.startswith(_SIGNATURES):
        return mask
    with typed_errors(), GifImagePlugin.GifImageFile(io.BytesIO(mask)) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ImageTooLarge(f"{width} × {height} pixels are more than {MAX_PIXELS:,}")
        if picture.n_frames > 1:
            raise FrameNeeded(f"it has {picture.n_frames} frames")
        same = io.BytesIO()
        picture.convert("RGBA" if picture.has_transparency_data else "RGB").save(same, "PNG", compress_level=1)
        return same.getvalue()

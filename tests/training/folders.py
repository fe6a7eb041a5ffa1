"""Small training folders on disk, in the layouts that their providers ship."""

import gzip
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Array = NDArray[np.uint8]


def picture(seed: int, *, height: int = 12, width: int = 10) -> Array:
    """Return a colour image unlike those of other seeds."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(seed: int, *, height: int = 12, width: int = 10) -> Array:
    """Return a grey image unlike those of other seeds."""
    return picture(seed, height=height, width=width)[..., 0]


def mask(seed: int, *, height: int = 12, width: int = 10) -> Array:
    """Return a mask of 0 and 255 with both in it."""
    values = np.where(grey(seed, height=height, width=width) > 127, 255, 0).astype(np.uint8)
    values[0, :2] = 0, 255
    return values


def write(path: Path, *pages: Array) -> Path:
    """Write an image in the format that the path's suffix says, gzipped if it ends in .gz; several pages for TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zipped = path.suffix == ".gz"
    suffix = (path.with_suffix("") if zipped else path).suffix.lower()
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".png": "PNG"}
    first, *others = [PillowImage.fromarray(page) for page in pages]
    more = {"save_all": True, "append_images": others} if others else {}
    buffer = io.BytesIO()
    first.save(buffer, formats.get(suffix, "PPM"), **more)
    path.write_bytes(gzip.compress(buffer.getvalue()) if zipped else buffer.getvalue())
    return path


def images_and_masks(folder: Path, names: list[str], *, size: tuple[int, int] = (12, 10)) -> Path:
    """Make a plain folder: images/NAME.png and masks/NAME.png."""
    height, width = size
    for seed, name in enumerate(names):
        write(folder / "images" / f"{name}.png", picture(seed, height=height, width=width))
        write(folder / "masks" / f"{name}.png", mask(seed, height=height, width=width))
    return folder


def slices(folder: Path, count: int, *, first: int = 0) -> Path:
    """Make a series: grey images/0.png … with masks/0.png …."""
    for page in range(first, first + count):
        write(folder / "images" / f"{page}.png", grey(page))
        write(folder / "masks" / f"{page}.png", mask(page))
    return folder

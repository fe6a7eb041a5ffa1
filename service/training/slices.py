"""Whether images are the slices of one volume: judged by their names, their size and their greys."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from service.errors import BadDataset, BadUpload, FrameNeeded
from service.imaging.decode import decode
from service.imaging.opening import typed_errors
from service.training.pairs import MAX_PIXELS, FileSource, Pair


def size_of_slices(pairs: tuple[Pair, ...]) -> tuple[int, int] | None:
    """Return the one (width, height) of all images if they are a series of slices, else None."""
    numbers = numbers_of(pairs)
    if numbers is None or not pairs[0].name.isdecimal() or 2 * len(numbers) < numbers[-1] - numbers[0] + 1:
        return None
    sizes: set[tuple[int, int] | None] = set()
    for pair in pairs:
        sizes.add(_size_of_grey(Path(pair.image.file)))
        if None in sizes or len(sizes) > 1:  # the first images tell, as a rule: thousands need not be opened
            return None
    return sizes.pop()


def numbers_of(pairs: tuple[Pair, ...]) -> list[int] | None:
    """Return the sorted numbers in three or more images' names that differ in nothing else; None for other names."""
    names = [re.fullmatch("(.*?)([0-9]+)", pair.name, re.DOTALL) for pair in pairs]
    found = [name.groups() for name in names if name]
    numbers = sorted({int(number) for _, number in found})
    is_one_row = len({word for word, _ in found}) == 1 and len(numbers) == len(pairs) >= 3
    return numbers if is_one_row else None


def _size_of_grey(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of an image that is grey, even if stored as colour; None for any other."""
    content = FileSource(path).read()
    try:
        with typed_errors(), PillowImage.open(io.BytesIO(content)) as picture:
            size, stored_grey = picture.size, len(picture.getbands()) == 1 and picture.mode != "P"
        return size if stored_grey or _is_grey(content) else None
    except FrameNeeded:
        return None  # whoever reads the image will say so
    except BadUpload as error:
        raise BadDataset(f"{path}: {error}") from error


def _is_grey(content: bytes) -> bool:
    pixels = decode(content, max_pixels=MAX_PIXELS).pixels
    return bool(np.all(pixels == pixels[..., :1]))

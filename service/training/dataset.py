"""A dataset: pairs of an image and its mask, from a folder or drawn by the code."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from service.errors import BadDataset, BadUpload, FrameNeeded
from service.imaging.decode import DecodedMask, decode, decode_mask
from service.imaging.placement import Image, Mask
from service.training.drawn import Kind, draw
from service.training.layouts import read_layout
from service.training.pairs import MemorySource, Pair, Source

__all__ = ["Dataset", "Pair", "check", "load", "load_image", "open_dataset"]

MAX_PIXELS = 100_000_000
"""Most pixels of one training image."""

DRAWN_IMAGES = 24
MOST_DRAWN_IMAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs that belong together, in natural order of their names.

    - `name`: "STARE", "ISBI 2012", "ISIC 2018", the folder's name, or "drawn:retina".
    - `is_series`: neighbouring pairs are neighbouring slices of one volume.
    - `digest`: sha256, in hex, over the sorted digests of all image and mask files, unpacked.
    """

    name: str
    pairs: tuple[Pair, ...]
    is_series: bool
    digest: str


def open_dataset(spec: str | Path, *, series: bool | None = None) -> Dataset:
    """Return the dataset in a folder, or one that the code draws.

    `spec` is a folder in one of the layouts of `service/training/layouts.py`, or `drawn:retina`, `drawn:cell` or
    `drawn:skin`, with the number of images behind it if it is not to be 24 (`drawn:retina:100`). `series` says whether
    the images are neighbouring slices of one volume; None leaves that to the layout.

    Raises:
        BadDataset: no such folder or drawing, no known layout, or files that cannot be paired; the message names them.
    """
    if str(spec).startswith("drawn:"):
        dataset = _draw_dataset(str(spec))
    else:
        layout = read_layout(Path(spec))
        dataset = Dataset(
            name=layout.name, pairs=layout.pairs, is_series=layout.is_series, digest=_digest(layout.pairs)
        )
    return dataset if series is None else replace(dataset, is_series=series)


def load(pair: Pair) -> tuple[Image, Mask]:
    """Return the image, uint8 (H, W, 3), RGB, 0 to 255, and its mask, uint8 (H, W), of 0 and 1.

    Raises:
        BadDataset: a file cannot be read or decoded, or the two differ in size; the message names the file.
    """
    image, decoded = _decode_both(pair)
    return image, decoded.mask.astype(np.uint8)


def load_image(pair: Pair) -> Image:
    """Return the image alone, as `load` does."""
    content = pair.image.read()
    try:
        return decode(content, max_pixels=MAX_PIXELS, frame=pair.image.frame).pixels
    except BadUpload as error:
        raise _fault(pair.image, error) from error


def check(dataset: Dataset, *, progress: bool) -> None:
    """Read every pair once, with a progress bar on stderr if `progress`.

    Raises:
        BadDataset: there is no pair, or the first file that cannot be read, differs in size from its partner, or is a
            mask of more than two values. A mask without any foreground is sound.
    """
    if not dataset.pairs:
        raise BadDataset(f"{dataset.name} holds no pair of an image and a mask")
    for pair in tqdm(dataset.pairs, desc="checking", unit="pair", disable=not progress, leave=False):
        _, decoded = _decode_both(pair)
        if not decoded.is_binary:
            rule = "a mask is 0 outside and one other value inside; cut it at a threshold, and save it as PNG, not JPEG"
            raise BadDataset(f"{pair.mask} is not binary: {rule}")


def _decode_both(pair: Pair) -> tuple[Image, DecodedMask]:
    image, content = load_image(pair), pair.mask.read()
    try:
        decoded = decode_mask(content, max_pixels=MAX_PIXELS, frame=pair.mask.frame)
    except BadUpload as error:
        raise _fault(pair.mask, error) from error
    (height, width), (mask_height, mask_width) = image.shape[:2], decoded.mask.shape
    if (height, width) != (mask_height, mask_width):
        sizes = f"{mask_width} × {mask_height} pixels, but {pair.image} has {width} × {height}"
        raise BadDataset(f"{pair.mask} has {sizes} (width × height, upright); make them the same")
    return image, decoded


def _fault(source: Source, error: BadUpload) -> BadDataset:
    if isinstance(error, FrameNeeded):
        return BadDataset(f"{source} is not one image but several; save each page as a file of its own")
    return BadDataset(f"{source}: {error}")


def _digest(pairs: Iterable[Pair]) -> str:
    files: dict[str, Source] = {source.file: source for pair in pairs for source in (pair.image, pair.mask)}
    digests = sorted(hashlib.sha256(source.read()).hexdigest() for source in files.values())
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _draw_dataset(spec: str) -> Dataset:
    _, kind, *rest = spec.split(":")
    count = int(rest[0]) if rest and rest[0].isdecimal() else DRAWN_IMAGES
    kinds: dict[str, Kind] = {name: name for name in get_args(Kind)}
    if kind not in kinds or (rest and rest != [str(count)]) or not 1 <= count <= MOST_DRAWN_IMAGES:
        known = ", ".join(f"drawn:{name}" for name in kinds)
        raise BadDataset(f"{spec!r} cannot be drawn; there are {known}, each with :1 to :{MOST_DRAWN_IMAGES} behind it")
    pairs = tuple(_draw_pair(kinds[kind], index) for index in range(count))
    return Dataset(name=f"drawn:{kind}", pairs=pairs, is_series=False, digest=_digest(pairs))


def _draw_pair(kind: Kind, index: int) -> Pair:
    """Draw one pair into memory, as the plainest files that `decode` reads."""
    image, mask = draw(kind, index)
    height, width = mask.shape
    name = f"{kind}-{index:03}"
    return Pair(
        name=name,
        image=MemorySource(f"{name}.ppm", b"P6\n%d %d\n255\n" % (width, height) + image.tobytes()),
        mask=MemorySource(f"{name}.mask.pgm", b"P5\n%d %d\n255\n" % (width, height) + (mask * 255).tobytes()),
    )

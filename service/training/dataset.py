"""A dataset: pairs of an image and its mask, from a folder or drawn by the code."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from service.errors import BadDataset, BadUpload, FrameNeeded
from service.imaging.decode import Decoded, DecodedMask, decode, decode_mask
from service.imaging.placement import Image, Mask
from service.training.drawn import Kind, draw
from service.training.gif_mask import without_gif
from service.training.layouts import read_layout
from service.training.pairs import MAX_PIXELS, FileSource, MemorySource, NoMask, Pair, Source
from service.training.stamps import Stamp, stamps_of

__all__ = ["Dataset", "Pair", "check", "check_learnable", "load", "load_image", "open_dataset"]

DRAWN_IMAGES = 24
MOST_DRAWN_IMAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs that belong together, in natural order of their names.

    - `name`: "STARE", "ISBI 2012", "ISIC 2018", the folder's name, or "drawn:retina".
    - `is_series`: neighbouring pairs are neighbouring slices of one volume.
    - `is_numbered`: the names differ only in their numbers, like those of slices, whether or not they were taken for a
      series.
    - `digest`: sha256, in hex, over the sorted digests of all image and mask files, unpacked.
    - `pairs_digest`: the same over the pairs: their names, images and masks.
    - `images`: sha256, in hex, of each pair's image as it is stored, by the pair's name.
    - `files`: sha256, in hex, of each image and mask file, unpacked, by its name (`Source.file`).
    - `stamps`: the stamps of the files, taken before they were read, which show later changes.
    - `cautions`: what a person should look at, a line each: pictures among the images that were not read and, once
      `check` has read everything, images that were turned by their EXIF orientation while their masks were not.
    - `pixels`, `foreground`: by the pair's name, once `check` has read them: sha256, in hex, of the image's pixels, and
      the share of the mask that is foreground, 0 to 1.
    """

    name: str
    pairs: tuple[Pair, ...]
    is_series: bool
    digest: str
    pairs_digest: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, compare=False)
    stamps: Mapping[str, Stamp] = field(default_factory=dict, compare=False)
    is_numbered: bool = False
    cautions: tuple[str, ...] = ()
    pixels: Mapping[str, str] = field(default_factory=dict)
    foreground: Mapping[str, float] = field(default_factory=dict)

    @property
    def contents(self) -> dict[str, set[str]]:
        """The digests that identify each image, by the pair's name: of the file, and of the pixels if known.

        The pixels' digest is the same if the image is saved in another format; older runs recorded only the file's.
        """
        return {name: {kind[name] for kind in (self.images, self.pixels) if name in kind} for name in self.images}

    @property
    def has_masks(self) -> bool:
        """Whether any of the images has a mask."""
        return any(not isinstance(pair.mask, NoMask) for pair in self.pairs)


def open_dataset(spec: str | Path, *, series: bool | None = None, needs_masks: bool = True) -> Dataset:
    """Return the dataset in a folder, or one that the code draws.

    `spec` is a folder in one of the layouts of `service/training/layouts.py`, or `drawn:retina`, `drawn:cell` or
    `drawn:skin`, followed by the number of images if it is not to be 24 (`drawn:retina:100`). `series` says whether the
    images are neighbouring slices of one volume; None leaves that to the layout. Without `needs_masks` the folder may
    hold images alone; the mask of each is then all background.

    Raises:
        BadDataset: no such folder or drawing, no known layout, or files that cannot be paired; the message names them.
    """
    if not str(spec):  # as from an unset shell variable; as a path it would be the current folder
        raise BadDataset("the folder of the data is empty; name one (. is the current one), or drawn:retina and so on")
    if str(spec).startswith("drawn:"):
        dataset = _draw_dataset(str(spec))
    else:
        layout = read_layout(Path(spec), needs_masks=needs_masks)
        found = _dataset(layout.name, layout.pairs, is_series=layout.is_series)
        dataset = replace(found, is_numbered=layout.is_numbered, cautions=layout.passed_over)
    return dataset if series is None else replace(dataset, is_series=series)


def load(pair: Pair) -> tuple[Image, Mask]:
    """Return the image, uint8 (H, W, 3), RGB, 0 to 255, and its mask, uint8 (H, W), of 0 and 1.

    Raises:
        BadDataset: a file cannot be read or decoded, or the two differ in size; the message names the file.
    """
    image, decoded = _decode_both(pair)
    return image.pixels, decoded.mask.astype(np.uint8)


def load_image(pair: Pair) -> Image:
    """Return the image alone, as `load` returns it."""
    return _decode(pair.image).pixels


def check(dataset: Dataset, *, progress: bool) -> Dataset:
    """Read every pair once, with a progress bar on stderr if `progress`; return the dataset with what was read.

    Raises:
        BadDataset: there is no pair, or a file cannot be read, differs in size from its partner, or is a mask of more
            than two values; the message names the first one. A mask without any foreground is accepted.
    """
    if not dataset.pairs:
        raise BadDataset(f"{dataset.name} holds no pair of an image and a mask")
    pixels, foreground, turned = dict[str, str](), dict[str, float](), list[Source]()
    for pair in tqdm(dataset.pairs, desc="checking", unit="pair", disable=not progress, leave=False):
        image, decoded = _decode_both(pair)
        if not decoded.is_binary:
            rule = "a mask is 0 outside and one other value inside; cut it at a threshold, and save it as PNG, not JPEG"
            raise BadDataset(f"{pair.mask} is not binary: {rule}")
        shape, content = image.pixels.shape, image.pixels.tobytes()
        pixels[pair.name] = hashlib.sha256(b"%d x %d:" % shape[:2] + content).hexdigest()
        foreground[pair.name] = float(decoded.mask.mean())
        if image.is_turned and not decoded.is_turned and not isinstance(pair.mask, NoMask):
            turned.append(pair.image)
    cautions = [] if not turned else [_of_turned(turned)]
    return replace(dataset, pixels=pixels, foreground=foreground, cautions=(*dataset.cautions, *cautions))


def _of_turned(images: Sequence[Source]) -> str:
    """Return the caution about images that are turned by their EXIF orientation while their masks are not."""
    which = str(images[0]) if len(images) == 1 else f"{images[0]} and {len(images) - 1} more"
    return (
        f"{which} are turned upright, as their EXIF orientation asks, and their masks, which have none, are not: masks"
        " are taken as drawn over the upright picture; look whether they are"
    )


def check_learnable(dataset: Dataset, names: Collection[str]) -> None:
    """Check that the masks of these pairs, which `check` has read, show both foreground and background.

    Raises:
        BadDataset: one of the two is missing; whatever learnt from such masks would score perfectly on others like
            them.
    """
    if missing := missing_kind(dataset, names):
        rule = "a mask is 0 outside and one other value inside; look whether these are the masks that were meant"
        raise BadDataset(f"no mask of the {len(names)} training images in {dataset.name} has any {missing}: {rule}")


def check_can_judge(dataset: Dataset, names: Collection[str]) -> None:
    """Check that the masks of these validation pairs, which `check` has read, show both foreground and background.

    Raises:
        BadDataset: one of the two is missing; the best epoch would be one that marks nothing, or everything.
    """
    if missing := missing_kind(dataset, names):
        advice = (
            "another --seed or other --fractions give other validation images, and --case-pattern keeps cases whole"
        )
        raise BadDataset(
            f"no mask of the {len(names)} validation images in {dataset.name} has any {missing}, so that they cannot"
            f" tell which epoch is the best: {advice}"
        )


def missing_kind(dataset: Dataset, names: Collection[str]) -> str | None:
    """Return what all these masks, which `check` has read, lack: "foreground" or "background"; None if neither."""
    shares = [dataset.foreground[name] for name in names]
    return "foreground" if max(shares, default=1) == 0 else "background" if min(shares, default=0) == 1 else None


def _decode(source: Source) -> Decoded:
    content = source.read()
    try:
        return decode(content, max_pixels=MAX_PIXELS, frame=source.frame)
    except BadUpload as error:
        raise _fault(source, error) from error


def _decode_both(pair: Pair) -> tuple[Decoded, DecodedMask]:
    image = _decode(pair.image)
    if isinstance(pair.mask, NoMask):
        return image, DecodedMask(np.zeros(image.pixels.shape[:2], np.bool_), is_binary=True)
    content = pair.mask.read()
    try:
        decoded = decode_mask(without_gif(content), max_pixels=MAX_PIXELS, frame=pair.mask.frame)
    except BadUpload as error:
        raise _fault(pair.mask, error) from error
    (height, width), (mask_height, mask_width) = image.pixels.shape[:2], decoded.mask.shape
    if (height, width) != (mask_height, mask_width):
        sizes = f"{mask_width} × {mask_height} pixels, but {pair.image} has {width} × {height}"
        raise BadDataset(f"{pair.mask} has {sizes} (width × height, upright); make them the same")
    return image, decoded


def _fault(source: Source, error: BadUpload) -> BadDataset:
    if isinstance(error, FrameNeeded):
        return BadDataset(f"{source} is not one image but several; save each page as a file of its own")
    return BadDataset(f"{source}: {error}")


def _dataset(name: str, pairs: Sequence[Pair], *, is_series: bool) -> Dataset:
    """Return the dataset with its digests; each file is read once."""
    files: dict[str, Source] = {source.file: source for pair in pairs for source in (pair.image, pair.mask)}
    stamps = stamps_of(file for file, source in files.items() if isinstance(source, FileSource))
    digests = {file: hashlib.sha256(source.read()).hexdigest() for file, source in files.items()}
    images = {pair.name: _of_page(digests[pair.image.file], pair.image) for pair in pairs}
    masks = {pair.name: _of_page(digests[pair.mask.file], pair.mask) for pair in pairs}
    together = json.dumps(sorted((case, images[case], masks[case]) for case in images))
    return Dataset(
        name=name,
        pairs=tuple(pairs),
        is_series=is_series,
        digest=_sha256("\n".join(sorted(digests.values()))),
        pairs_digest=_sha256(together),
        images=images,
        files=digests,
        stamps=stamps,
    )


def _of_page(digest: str, source: Source) -> str:
    """Return a source's digest, given its file's: the same for a whole file, a different one for each page."""
    return digest if source.frame is None else _sha256(f"{digest}, page {source.frame}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _draw_dataset(spec: str) -> Dataset:
    _, kind, *rest = spec.split(":")
    count = int(rest[0]) if rest and rest[0].isdecimal() else DRAWN_IMAGES
    kinds: dict[str, Kind] = {name: name for name in get_args(Kind)}
    if kind not in kinds or (rest and rest != [str(count)]) or not 1 <= count <= MOST_DRAWN_IMAGES:
        known = ", ".join(f"drawn:{name}" for name in kinds)
        raise BadDataset(f"{spec!r} cannot be drawn; there are {known}, each with :1 to :{MOST_DRAWN_IMAGES} behind it")
    pairs = tuple(_draw_pair(kinds[kind], index) for index in range(count))
    return _dataset(f"drawn:{kind}", pairs, is_series=False)


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

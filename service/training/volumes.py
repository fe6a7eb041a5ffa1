"""Volumes in one file: a TIFF whose pages are slices, each with the page of its mask."""

from pathlib import Path

from service.errors import BadDataset, BadUpload
from service.imaging import tiff
from service.imaging.opening import SIGNATURES, typed_errors
from service.training.pairs import FileSource, NoMask, Pair

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})


def pages_as_pairs(stem: str, image: Path, n: int, mask: Path | None) -> list[Pair]:
    """Return a pair for each of the `n` pages of `image`, named `stem`-00 and so on, with `NoMask` if `mask` is None.

    Raises:
        BadDataset: the mask cannot be read, or has a different number of pages; the message names both.
    """
    if mask is not None and (n_masks := count_pages(mask)) != n:
        raise BadDataset(f"{image} has {n} pages, but {mask.name} has {n_masks}; both must be TIFFs of as many")
    digits = max(2, len(str(n - 1)))
    images = [FileSource(image, page) for page in range(n)]
    return [
        Pair(
            name=f"{stem}-{page:0{digits}}",
            image=source,
            mask=NoMask(source) if mask is None else FileSource(mask, page),
        )
        for page, source in enumerate(images)
    ]


def count_pages(path: Path) -> int:
    """Return how many pages a TIFF has, thumbnails aside; a file that is no TIFF, whatever its name says, has one.

    Raises:
        BadDataset: it cannot be read; the message names it.
    """
    content = FileSource(path).read()
    if not content.startswith(SIGNATURES["TIFF"]):
        return 1
    try:
        with typed_errors():
            return len(tiff.pages(content))
    except BadUpload as error:
        raise BadDataset(f"{path}: {error}") from error

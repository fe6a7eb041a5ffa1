"""The files of `alnet segment`: find the images, name their masks, and write them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import BadParameter
from service.imaging.file_names import SUFFIXES, unread_pictures
from service.store.durable import replace as replace_file

if TYPE_CHECKING:
    from service.engine.segmenter import Segmentation


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """Return the files among `inputs` and the images in its folders, sorted within each folder, each file once.

    Links to one image under several names count as several: data stores keep equal files once, and each name gets its
    own mask.

    Raises:
        BadParameter: a path does not exist, or nothing was found.
    """
    found: dict[Path, Path] = {}
    for path in inputs:
        if not path.exists():
            raise BadParameter(f"{path} does not exist")
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file == path or (file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()):
                found.setdefault(file.parent.resolve() / file.name, file)
    if not found:
        raise BadParameter("; ".join([f"no images in {', '.join(map(str, inputs))}", *passed_over(inputs, None)]))
    return list(found.values())


def passed_over(inputs: Sequence[Path], out: Path | None) -> list[str]:
    """Return lines on what is not read in the folders of `inputs`, but may have been meant.

    These are pictures in other formats, and folders other than the one for the masks.
    """
    return [*_other_formats(inputs), *_deeper_folders(inputs, out)]


def _other_formats(inputs: Sequence[Path]) -> list[str]:
    counts = Counter[str]()
    for folder in {path.resolve() for path in inputs if path.is_dir()}:
        counts.update(unread_pictures(folder))
    return [f"{suffix} files ({counts[suffix]}) are passed over; save them as PNG" for suffix in sorted(counts)]


def _deeper_folders(inputs: Sequence[Path], out: Path | None) -> list[str]:
    known = {path.resolve() for path in (*inputs, *([] if out is None else [out]))}
    inside = [path for folder in inputs if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()]
    deeper = [path for path in inside if not path.name.startswith(".") and path.resolve() not in known]
    if not deeper:
        return []
    example = f"{deeper[0]} and {len(deeper) - 1} more" if len(deeper) > 1 else str(deeper[0])
    return [
        f"folders inside folders ({len(deeper)}) are passed over; name them, too, to segment what is in them: {example}"
    ]


def name_outputs(files: Sequence[Path], out: Path, *, probability: bool) -> dict[Path, list[Path]]:
    """Return the path in `out` of each file's mask and, if there is to be one, of its probability map.

    Raises:
        BadParameter: two images would give files of one name, or an image itself would be overwritten.
    """
    endings = [".png", ".probability.png"] if probability else [".png"]
    outputs = {file: [out / f"{file.stem}{ending}" for ending in endings] for file in files}
    images, taken = {file.resolve() for file in files}, dict[Path, Path]()
    for file, paths in outputs.items():
        for path in paths:
            if (other := taken.setdefault(path, file)) is not file:
                raise BadParameter(f"{other} and {file} would both give {path.name}; segment them in two calls")
            if path.resolve() in images:
                raise BadParameter(f"{path} is one of the images and would be written over; pick another folder --out")
    return outputs


def read_image(file: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: it cannot be read, or does not fit into memory.
    """
    try:
        return file.read_bytes()
    except MemoryError:
        raise OSError("there is not enough memory to read it") from None


def write_masks(paths: Sequence[Path], answer: "Segmentation") -> None:
    """Write the mask to the first of `paths`, and the probability map, if the answer has one, to the second.

    Raises:
        OSError: a file cannot be written; the message says which.
    """
    pngs = [png for png in (answer.mask_png, answer.probability_png) if png is not None]
    for path, png in zip(paths, pngs, strict=True):
        _write_whole(path, png)


def _write_whole(path: Path, png: bytes) -> None:
    """Write a mask whole or not at all, as when the disk is full; if it cannot be written, an older file stays."""
    try:
        replace_file(path, png, mode=None)  # as private as its owner's other files: it may show a patient
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error

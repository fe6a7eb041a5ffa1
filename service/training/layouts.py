"""How training folders are laid out: which file is the mask of which image.

Each layout is one function that returns None if a folder is laid out otherwise. It looks one folder deep, and only at
files with an image's suffix, so README, LICENSE.txt, Thumbs.db and hidden files may lie around.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.errors import BadDataset
from service.imaging.file_names import SUFFIXES, unpacked, unread_pictures
from service.store.card import printable
from service.training import gif_mask
from service.training.listed import TABLE, read_listed
from service.training.pairs import FileSource, NoMask, Pair
from service.training.slices import numbers_of, size_of_slices
from service.training.volumes import TIFF_SUFFIXES, count_pages, pages_as_pairs

MASK_SUFFIXES = SUFFIXES | {gif_mask.SUFFIX}

MASK_WORDS = ("mask", "segmentation", "seg", "label", "labels", "gt", "groundtruth", "manual")
"""Words that may follow an image's name in its mask's name, after `_`, `-` or a full stop, in upper or lower case."""

LAYOUTS = (
    "images/NAME.png with masks/NAME.png (or NAME_mask.png and the like); "
    "STARE: stare-images/NAME.ppm with labels-ah/NAME.ah.ppm; "
    "ISBI 2012: train-volume.tif with train-labels.tif; "
    "ISIC 2018: ISIC2018_Task1-2_Training_Input/ with ISIC2018_Task1_Training_GroundTruth/; "
    "any other: pairs.csv with a line image,mask and a line for each pair below it"
)


MASKS_APART = "images into images/ and masks into masks/"


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found in a folder: the dataset's name and its pairs in natural order.

    `is_numbered`: their names differ only in their numbers, like those of slices, whether or not they were taken for a
    series. `passed_over`: a line for whatever lies among the images and may have been meant, but was not read.
    """

    name: str
    pairs: tuple[Pair, ...]
    is_series: bool = False
    is_numbered: bool = False
    passed_over: tuple[str, ...] = ()


def read_layout(folder: Path, *, needs_masks: bool = True) -> Layout:
    """Return the pairs in `folder`: those that its `pairs.csv` names, or else those of the first layout that fits.

    Without `needs_masks`, a folder that fits no layout may hold images alone, directly or in `images/`.

    Raises:
        BadDataset: the folder does not exist, has no layout that we know, holds no pair, or has an image without a
            mask, a mask without an image, two files of one name, a link to nothing, a name that is not UTF-8, or a
            `pairs.csv` that `read_listed` cannot read; the message names the file.
    """
    if not folder.is_dir():
        raise BadDataset(f"{folder} is no folder; {_instead_of_folder(folder)}")
    if not _prints(folder.resolve().name):
        raise BadDataset(f"the folder's name {folder.resolve().name!a} is no UTF-8, or does not print; rename it")
    try:
        if listed := _listed(folder, needs_masks=needs_masks):
            return listed
        for layout in PAIRED if needs_masks else (*PAIRED, _images_alone):
            if found := layout(folder):
                return replace(found, passed_over=_passed_over(folder, found.pairs))
    except OSError as error:
        raise BadDataset(f"{folder} cannot be listed: {error}") from error
    advice = "" if needs_masks else "; or images alone, in the folder itself or in images/"
    if folder.resolve().name.lower() in {"images", "masks"}:
        advice += f"; if {folder} is one of the two folders, give that which holds both"
    raise BadDataset(f"{folder} is laid out in no way that we know; known are {LAYOUTS}{advice}")


def _listed(folder: Path, *, needs_masks: bool) -> Layout | None:
    """Read the pairs that `pairs.csv` names, and no others; pages of volumes, or images like slices, are a series."""
    listed = read_listed(folder)
    if listed is None:
        return None
    if needs_masks and all(isinstance(pair.mask, NoMask) for pair in listed):
        raise BadDataset(f"{folder / TABLE} gives no image a mask; name them in a column mask")
    for pair in listed:
        if needs_masks and isinstance(pair.mask, NoMask):
            raise BadDataset(f"{folder / TABLE} gives {pair.image} no mask; name one, or remove its line")
    pairs = tuple(sorted(listed, key=_natural_of_page))
    is_series = all(pair.image.frame is not None for pair in pairs) or size_of_slices(pairs) is not None
    return Layout(folder.resolve().name, pairs, is_series=is_series, is_numbered=numbers_of(pairs) is not None)


def _passed_over(folder: Path, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Return a line for each kind of picture beside the images that was not read; `folder` itself is left out."""
    places = sorted({Path(pair.image.file).parent for pair in pairs} - {folder})
    return tuple(line for where in places for line in _unread_pictures(where))


def _unread_pictures(where: Path) -> list[str]:
    """Return a line for each subfolder with images, and for each kind of picture that is not read."""
    inside = {path: _passed_images(path) for path in sorted(where.iterdir()) if not path.name.startswith(".")}
    lines = [
        f"{path} holds images ({len(images)}) that are passed over: only {where} itself is read"
        for path, images in inside.items()
        if images
    ]
    lines += (
        f"{where} holds {suffix} files ({count}) that are passed over: save them as PNG"
        for suffix, count in unread_pictures(where).items()
    )
    return lines


def _instead_of_folder(path: Path) -> str:
    """Return what to give instead of a path that is no folder."""
    if path.name == TABLE and path.is_file():
        return f"give the one that it lies in: {path.absolute().parent}"
    packed = "unpack it if it is an archive, and " if path.is_file() else ""
    return f"{packed}give a folder of images and masks, or drawn:retina, drawn:cell, drawn:skin"


def _instead_of_images(where: Path) -> str:
    """Return what a folder without images holds instead, and what to do; empty if there is nothing to say."""
    if lines := _unread_pictures(where):
        return f"; {lines[0]}"
    folders = [path for path in where.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return (
        f"; it holds folders ({len(folders)}), and only {where} itself is read: put the images there" if folders else ""
    )


def _stare(folder: Path) -> Layout | None:
    """STARE (Hoover et al. 2000): 20 fundus photographs, vessels drawn by observer AH.

    The originals: `stare-images.tar` holds `im0001.ppm.gz` …, `labels-ah.tar` holds `im0001.ah.ppm.gz` …, unpacked side
    by side or into folders of the tars' names. Labels of the second observer (`im0001.vk.ppm.gz`) are ignored.
    """
    for image_folder, mask_folder in (("stare-images", "labels-ah"), ("images", "masks"), (".", ".")):
        masks = [path for path in _image_files(folder / mask_folder) if _stem(path).endswith(".ah")]
        if masks:
            observers = (".ah", ".vk")
            images = [path for path in _image_files(folder / image_folder) if not _stem(path).endswith(observers)]
            return Layout("STARE", _pair_up(images, masks, lambda stem, _: stem.removesuffix(".ah")))
    return None


def _isbi2012(folder: Path) -> Layout | None:
    """ISBI 2012 EM challenge: the originals `train-volume.tif` and `train-labels.tif`, 30 pages each.

    Their pages saved as single files are read by `_images_and_masks`. `test-volume.tif` has no labels and is ignored.
    """
    stems = ("train-volume", "train-labels")
    tiffs = (path for path in _image_files(folder) if unpacked(path).suffix.lower() in TIFF_SUFFIXES)
    volumes = {_stem(path): path for path in tiffs if _stem(path) in stems}
    if not volumes:
        return None
    for stem in stems:
        if stem not in volumes:
            raise BadDataset(f"{folder} lacks {stem}.tif beside {next(iter(volumes.values())).name}")
    image, mask = (volumes[stem] for stem in stems)
    return Layout("ISBI 2012", tuple(pages_as_pairs("slice", image, count_pages(image), mask)), is_series=True)


def _isic2018(folder: Path) -> Layout | None:
    """ISIC 2018 Task 1: dermoscopy, `ISIC_0000000.jpg` with `ISIC_0000000_segmentation.png`.

    The originals lie in `ISIC2018_Task1-2_Training_Input/` and `ISIC2018_Task1_Training_GroundTruth/`. In `images/` and
    `masks/` the files of other years look the same; there the name of the dataset's folder decides.
    """
    originals = ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth")
    for image_folder, mask_folder in (originals, ("images", "masks")):
        images, masks = _image_files(folder / image_folder), _image_files(folder / mask_folder)
        named = all(_stem(path).startswith("ISIC_") for path in images)
        if images and named and any(_stem(path).endswith("_segmentation") for path in masks):
            pairs = _pair_up(images, masks, lambda stem, _: stem.removesuffix("_segmentation"))
            is_original = image_folder == originals[0] or _is_called(folder, "isic2018")
            return Layout("ISIC 2018" if is_original else folder.resolve().name, pairs)
    return None


def _images_and_masks(folder: Path) -> Layout | None:
    """Any folder with `images/` and `masks/`: files pair up by name, apart from suffix and one of `MASK_WORDS`.

    Images are taken for the slices of one volume if their names are numbers (three or more, and at least half of those
    from the first to the last) and all are grey and of one size. Thirty of 512 × 512 in a folder whose name says so are
    ISBI 2012.
    """
    image_folder, mask_folder = _subfolder(folder, "images"), _subfolder(folder, "masks")
    if image_folder is None or mask_folder is None:
        return None
    images, masks = _image_files(image_folder), _image_files(mask_folder, MASK_SUFFIXES)
    for subfolder, found, suffixes in ((image_folder, images, SUFFIXES), (mask_folder, masks, MASK_SUFFIXES)):
        if not found:
            read = f"we read {' '.join(sorted(suffixes))}, also as .gz"
            raise BadDataset(f"{subfolder} holds no image; {read}{_instead_of_images(subfolder)}")
    pairs = _pair_up(images, masks, _case_of)
    size = size_of_slices(pairs)
    is_isbi = size == (512, 512) and len(pairs) == 30 and _is_called(folder, "isbi2012")
    name = "ISBI 2012" if is_isbi else folder.resolve().name
    return Layout(name, pairs, is_series=size is not None, is_numbered=numbers_of(pairs) is not None)


def _images_alone(folder: Path) -> Layout | None:
    """Images without masks, in `images/` or side by side; a folder with `masks/` has lost its images and is refused."""
    if _subfolder(folder, "masks") is not None:
        return None
    images = _by_case((_stem(path), path) for path in _image_files(_subfolder(folder, "images") or folder))
    sources = {case: FileSource(images[case]) for case in sorted(images, key=_natural)}
    for case in sources:
        if (other := _case_of(case, sources.keys() - {case})) != case and other in sources:
            raise BadDataset(f"{images[case]} seems to be the mask of {images[other].name}; put {MASKS_APART}")
    pairs = tuple(Pair(name=case, image=source, mask=NoMask(source)) for case, source in sources.items())
    return Layout(folder.resolve().name, pairs) if pairs else None


PAIRED: tuple[Callable[[Path], Layout | None], ...] = (_stare, _isbi2012, _isic2018, _images_and_masks)
"""The layouts of images and masks, the narrowest first."""


def _pair_up(
    images: Iterable[Path], masks: Iterable[Path], case_of: Callable[[str, Collection[str]], str]
) -> tuple[Pair, ...]:
    """Pair each image with the mask whose stem `case_of` maps to the image's stem."""
    image_of = _by_case((_composed(path), path) for path in images)
    mask_of = _by_case((case_of(_composed(path), image_of), path) for path in masks)
    image_folders, mask_folders = ({path.parent for path in found.values()} for found in (image_of, mask_of))
    for case in sorted(image_of.keys() - mask_of.keys()):
        unread = _unread(mask_folders, case, lambda stem: case_of(stem, image_of))
        raise BadDataset(f"{image_of[case]} has no mask; {unread or _missing_mask(case, image_of, mask_of)}")
    for case in sorted(mask_of.keys() - image_of.keys()):
        unread = _unread(image_folders, case, lambda stem: stem)
        raise BadDataset(f"{mask_of[case]} is a mask without an image; {unread or 'add the image or remove the mask'}")
    _check_links(image_folders | mask_folders)
    pairs = (
        Pair(name=_stem(image), image=FileSource(image), mask=FileSource(mask_of[case]))
        for case, image in image_of.items()
    )
    return tuple(sorted(pairs, key=lambda pair: _natural(pair.name)))


def _missing_mask(case: str, image_of: Mapping[str, Path], mask_of: Mapping[str, Path]) -> str:
    """Return what to do about an image without a mask: rename the mask that seems to be meant, or add one."""
    name = _stem(image_of[case])
    for other in sorted(mask_of.keys() - image_of.keys()):
        if other.casefold().startswith(case.casefold()):
            words = ", ".join(MASK_WORDS)
            return f"{mask_of[other]} is none by its name: call it {name}.png, or {name}_ and one of {words}"
    return f"add {name}.png or {name}_mask.png to the masks, or remove the image"


def _check_links(folders: Iterable[Path]) -> None:
    """Raise BadDataset if an image here is a link to nothing: if its partner is one, too, nothing else shows it."""
    for path in (path for folder in sorted(folders) for path in sorted(folder.iterdir())):
        if _is_link_to_nothing(path) and unpacked(path).suffix.lower() in SUFFIXES:
            raise BadDataset(f"{path} is a link to what is not there: mend it, or remove it and its partner")


def _unread(folders: Iterable[Path], case: str, case_of: Callable[[str], str]) -> str | None:
    """Return what to do if the file of this case is in one of the folders, but cannot be read."""
    files = (path for folder in sorted(folders) for path in sorted(folder.iterdir()))
    for path in (path for path in files if case_of(_composed(path)) == case):
        if _is_link_to_nothing(path):
            return f"{path} is a link to what is not there: mend the link"
        if path.is_file() and unpacked(path).suffix.lower() not in SUFFIXES:
            return f"{path} is in a format that is not read: save it as PNG"
    return None


def _is_link_to_nothing(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _by_case(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    by_case: dict[str, Path] = {}
    for case, path in files:
        if case in by_case:
            raise BadDataset(f"{by_case[case]} and {path.name} both stand for {case!r}; keep one of the two")
        by_case[case] = path
    return by_case


def _case_of(mask_stem: str, cases: Collection[str]) -> str:
    """Return the image's stem for a mask's stem: the same, or without a word of `MASK_WORDS` at its end."""
    if mask_stem in cases:
        return mask_stem
    return re.sub(rf"[_.-]({'|'.join(MASK_WORDS)})$", "", mask_stem, flags=re.IGNORECASE)


def _is_called(folder: Path, name: str) -> bool:
    """Return whether the folder's name contains `name`, ignoring case and all but letters and digits."""
    return name in re.sub("[^a-z0-9]", "", folder.resolve().name.lower())


def _image_files(folder: Path | None, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    images = [] if folder is None else _images_in(folder, suffixes)
    for path in images:
        if not _is_utf_8(path.name):
            raise BadDataset(f"{str(path)!a} has a name that is no UTF-8: rename it and its partner")
    return images


def _images_in(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if unpacked(path).suffix.lower() in suffixes)


def _passed_images(folder: Path) -> list[Path]:
    """Return the images in a folder that is passed over; none if it may not be looked into, as `lost+found`."""
    try:
        return _images_in(folder)
    except OSError:
        return []


def _prints(name: str) -> bool:
    """Return whether a folder's name is text that can stand in a card."""
    try:
        printable(name)
    except ValueError:
        return False
    return True


def _is_utf_8(name: str) -> bool:
    """Return whether a file's name, as Python gives it, is UTF-8; Latin-1 from an old archive is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _subfolder(folder: Path, name: str) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() == name), None)


def _stem(path: Path) -> str:
    return unpacked(path).stem


def _composed(path: Path) -> str:
    """Return the stem that pairs image and mask, composed: some systems write é as one character, others as two."""
    return unicodedata.normalize("NFC", _stem(path))


def _natural_of_page(pair: Pair) -> tuple[tuple[list[str | int], str], int]:
    """Sort key that keeps the pages of a volume together, whatever other volumes are called."""
    page = pair.image.frame
    return (_natural(pair.name), -1) if page is None else (_natural(pair.name.rpartition("-")[0]), page)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key in which slice10 follows slice9."""
    return [int(part) if part.isascii() and part.isdecimal() else part for part in re.split("([0-9]+)", name)], name

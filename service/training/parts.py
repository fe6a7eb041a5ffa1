"""The data of one run: read, checked and split, each part decoded once as far as the cache reaches."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from service.errors import printable
from service.imaging.placement import Image, Mask, place, unframed
from service.imaging.policy import InputPolicy
from service.imaging.share import UsualShare, share_of
from service.imaging.statistics import Likeness, features
from service.store.card import Normalisation
from service.training.cache import PairCache
from service.training.config import Config
from service.training.dataset import Dataset, check, check_can_judge, check_learnable, missing_kind, open_dataset
from service.training.run_folder import RunFolder
from service.training.split import Split, split

GIB = 1 << 30

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The dataset's three parts, each decoded once as far as the cache reaches."""

    dataset: Dataset
    split: Split
    train: PairCache
    validation: PairCache
    test: PairCache

    @property
    def caches(self) -> tuple[PairCache, ...]:
        """All three."""
        return self.train, self.validation, self.test


def read_parts(config: Config, folder: RunFolder, say: Say, *, leads: bool = True, needs_masks: bool = True) -> Parts:
    """Open and check the dataset; split it, or take the split that the run began with.

    Of several processes only the one that `leads` checks every file, and knows the images' pixels. Without
    `needs_masks`, a dataset without masks is accepted; all its images are then for training, since they can judge
    nothing.

    Raises:
        BadDataset: a file cannot be used, or the masks of the training or validation images are all empty or all full.
        BadConfig: the data are not those that the run began with.
    """
    dataset = open_dataset(config.data, series=config.series, needs_masks=needs_masks)
    if leads:
        dataset = check(dataset, progress=sys.stderr.isatty())
    chosen = folder.split(dataset, lambda: _split(dataset, config))
    if leads:
        for line in dataset.cautions:
            say(f"caution: {printable(line)}")
    if leads and needs_masks:
        check_learnable(dataset, chosen.train)
        check_can_judge(dataset, chosen.validation)
        _caution(dataset, chosen.test, say)
    sizes = f"{len(chosen.train)} train, {len(chosen.validation)} validation, {len(chosen.test)} test"
    say(f"{dataset.name}: {sizes}{f', {len(chosen.unused)} unused' if chosen.unused else ''}{_guess(dataset, config)}")
    pairs = {pair.name: pair for pair in dataset.pairs}

    def cache(names: Sequence[str]) -> PairCache:
        return PairCache([pairs[name] for name in names], config.cache_gib * GIB * len(names) / len(pairs))

    return Parts(dataset, chosen, cache(chosen.train), cache(chosen.validation), cache(chosen.test))


def _caution(dataset: Dataset, test: Sequence[str], say: Say) -> None:
    """Say if the test images can judge nothing, which is no reason to stop."""
    if missing := missing_kind(dataset, test):
        say(f"caution: no mask of the {len(test)} test images has any {missing}: their scores will say nothing")


def _guess(dataset: Dataset, config: Config) -> str:
    """Return in words what numbered images were taken for, where nobody said and the guess may be wrong."""
    if config.series is not None or config.case_pattern is not None or not (dataset.is_series or dataset.is_numbered):
        return ""
    if dataset.is_series:
        return "; taken for slices of one volume (if they are none: --no-series)"
    return "; numbered, but not taken for slices of one volume (if they are: --series)"


def _split(dataset: Dataset, config: Config) -> Split:
    if not dataset.has_masks:
        names = tuple(pair.name for pair in dataset.pairs)
        return Split(train=names, validation=(), test=(), how="images without masks: all are to learn from")
    return split(
        dataset,
        fractions=config.fractions,
        seed=config.seed,
        case_pattern=config.case_pattern,
        fold=(config.fold, config.folds) if config.fold and config.folds else None,
    )


@dataclass(frozen=True, slots=True)
class Usual:
    """What the training part is like: channels' mean and spread, images by their descriptors, masks by their share."""

    normalisation: Normalisation
    likeness: Likeness
    share: UsualShare


def study(pairs: PairCache, policy: InputPolicy, *, quiet: bool = False) -> Usual:
    """Return what training pictures look like, without their frames, and how much of them the masks cover."""
    sums, squares, pixels, rows, shares = np.zeros(3), np.zeros(3), 0, [], []
    for _, (image, mask) in shown(pairs, "studying", quiet=quiet):
        placement = place(image, policy)
        shares.append(share_of(int(np.count_nonzero(mask)), placement))
        picture = unframed(image, placement)
        values = picture.reshape(-1, 3) / 255.0
        sums, squares, pixels = sums + values.sum(0), squares + np.square(values).sum(0), pixels + len(values)
        rows.append(features(picture))
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - np.square(mean), 1e-4))
    return Usual(Normalisation(mean=_rgb(mean), std=_rgb(std)), Likeness.fit(np.stack(rows)), UsualShare.fit(shares))


def shown(pairs: PairCache, title: str, *, quiet: bool = False) -> Iterator[tuple[str, tuple[Image, Mask]]]:
    """Yield the named pairs, with a progress bar unless `quiet` is set or there is no terminal to show it."""
    hidden = True if quiet else None
    yield from tqdm(pairs.named(), title, len(pairs), leave=False, unit="image", disable=hidden)


def _rgb(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue

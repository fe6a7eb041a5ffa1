"""Which images train, which choose the best epoch, which score; no case and no near-duplicate is in two parts."""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from service.errors import BadConfig, BadDataset
from service.training.dataset import Dataset, Pair
from service.training.duplicates import near_duplicates

PARTS = ("train", "validation", "test")
NO_SLICES = "If the images are no slices of one volume, `alnet train` takes --no-series"
Fractions = tuple[float, float, float]

Fold = tuple[int, int]
"""Which fold of how many is the test part: (1, 5) to (5, 5)."""

Shares = Mapping[str, float]
"""The share of each part that is not to be empty, by the part's name; they sum to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Names of pairs, each in exactly one part.

    `unused` are the slices left out where two parts of a series meet. `how` says for the card how the split was made.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unused: tuple[str, ...] = ()
    how: str

    def to_json(self) -> dict[str, str | tuple[str, ...]]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, str | Sequence[str]]) -> Self:
        """Return the split that `to_json` wrote down."""
        parts = {name: tuple(content[name]) for name in (*PARTS, "unused")}
        return cls(**parts, how=str(content["how"]))


def split(
    dataset: Dataset, *, fractions: Fractions, seed: int, case_pattern: str | None = None, fold: Fold | None = None
) -> Split:
    """Divide a dataset into train, validation and test by `fractions` of its images, as closely as its groups allow.

    Images are dealt out in groups that stay together: near-duplicates (service/training/duplicates.py), and the pages
    of a volume that lies beside single pictures. With `case_pattern`, a regular expression whose first group finds the
    case in a pair's name, all images of a case stay together, too. Without it, the slices of a series are not dealt out
    but cut into blocks, with one slice left unused wherever two blocks meet. The same seed gives the same split on
    every machine.

    With `fold` (i, k) the test part is instead the i-th of k folds, which are about equally large and together hold
    each image exactly once; train and validation share the other images in proportion to their `fractions`.

    Raises:
        BadConfig: the fractions are negative, do not sum to 1 or leave nothing to train; there is no such fold; or
            `case_pattern` is no regular expression with a group, or finds nothing in a name.
        BadDataset: there are too few groups to give one to each fold, or to each part whose fraction is above 0; or a
            slice of a series would lie in two parts.
    """
    _check_fractions(fractions)
    if fold is not None and not 1 <= fold[0] <= fold[1] >= 2:
        raise BadConfig(f"there is no fold {fold[0]} of {fold[1]}: folds are two or more, and count from 1")
    if dataset.is_series and case_pattern is None:
        return _split_series(dataset, fractions, seed, fold)
    names = [pair.name for pair in dataset.pairs]
    links = [] if case_pattern is None else _same_case(names, case_pattern)
    links += near_duplicates(dataset.pairs) + _same_volume(dataset.pairs)
    groups = _connected(names, links)
    dealt = _deal(groups, _shares(fractions), seed) if fold is None else _deal_fold(groups, fractions, seed, fold)
    together = "near-duplicates" if case_pattern is None else f"near-duplicates and cases by {case_pattern!r}"
    count = f"{len(names)} images in {len(groups)} groups, the largest of {max(map(len, groups))}"
    return Split(**_in_order(names, dealt), how=f"{_origin(seed, fold)}; {together} kept together: {count}")


def _split_series(dataset: Dataset, fractions: Fractions, seed: int, fold: Fold | None) -> Split:
    """Cut a series into one block for each part, or around the fold's test block, with a guard slice between blocks."""
    names = [pair.name for pair in dataset.pairs]
    if fold is None:
        blocks = _cut(names, _shares(fractions), seed)
        order = f"in the order {', '.join(blocks)}"
    else:
        blocks = _cut_fold(names, fractions, seed, fold)
        order = "around that of the test part"
    _check_seen_once(dataset, blocks)
    used = set().union(*blocks.values())
    return Split(
        **_in_order(names, blocks),
        unused=tuple(name for name in names if name not in used),
        how=f"{_origin(seed, fold)}; contiguous blocks of slices {order}, one slice left out at each border",
    )


def _check_seen_once(dataset: Dataset, blocks: Mapping[str, Sequence[str]]) -> None:
    """Raise BadDataset if a slice lies in two blocks, as when a table names it twice, with the masks of two people."""
    of_name = {pair.name: pair.image for pair in dataset.pairs}
    first: dict[str, tuple[str, str]] = {}
    for part, name in ((part, name) for part, names in blocks.items() for name in names):
        image = of_name[name]
        content = image.file if image.frame is None else dataset.images[name]  # files may be equal: empty slices
        other, where = first.setdefault(content, (name, part))
        if where != part:
            same = f"{other} and {name} are the same slice, and would come into {where} and {part}"
            raise BadDataset(f"{same}; name each once. {NO_SLICES}")


def _cut(names: Sequence[str], shares: Shares, seed: int) -> dict[str, Sequence[str]]:
    """Cut names into one block for each part, in seeded order, with one name left out between blocks."""
    order = sorted(shares, key=_shuffled(seed))
    guards = len(order) - 1
    if len(names) < len(order) + guards:
        needed = f"{len(order)} parts need {len(order) + guards}"
        raise BadDataset(f"there are {len(names)} slices; {needed}. {NO_SLICES}")
    sizes = _apportion(len(names) - guards, shares)
    blocks: dict[str, Sequence[str]] = {}
    start = 0
    for part in order:
        blocks[part] = names[start : start + sizes[part]]
        start += sizes[part] + 1
    return blocks


def _cut_fold(names: Sequence[str], fractions: Fractions, seed: int, fold: Fold) -> dict[str, Sequence[str]]:
    """Take the fold's block for testing, leave out the slice on each side of it, and cut up the others.

    The slices after the block come first, then those before it. The last slice of a series and the first are no
    neighbours, so one part may hold both.
    """
    number, folds = fold
    shares = _training_shares(fractions)
    around = [_outside(names, index, folds) for index in range(1, folds + 1)]
    least = min(map(len, around))  # over all folds: better refused now than once some are trained
    if folds > len(names) or least < 2 * len(shares) - 1:
        few = f"{len(names)} slices are too few for {folds} folds with something to train between them"
        raise BadDataset(f"{few}. {NO_SLICES}")
    return {"test": names[slice(*_ends(len(names), *fold))]} | _cut(around[number - 1], shares, seed)


def _ends(count: int, number: int, folds: int) -> tuple[int, int]:
    """Return where a fold's block begins and ends among `count` slices."""
    return count * (number - 1) // folds, count * number // folds


def _outside(names: Sequence[str], number: int, folds: int) -> list[str]:
    """Return the slices after a fold's block, then those before it, without the one on each side of the block."""
    start, stop = _ends(len(names), number, folds)
    return [*names[stop + 1 :], *names[: max(start - 1, 0)]]


def _apportion(total: int, shares: Shares) -> dict[str, int]:
    """Return whole numbers that sum to `total`, in proportion to `shares`, each at least 1."""
    counts = dict.fromkeys(shares, 1)
    while sum(counts.values()) < total:
        neediest = max(shares, key=lambda part: shares[part] * total - counts[part])
        counts[neediest] += 1
    return counts


def _deal_fold(groups: Sequence[Sequence[str]], fractions: Fractions, seed: int, fold: Fold) -> dict[str, set[str]]:
    """Deal all groups to the folds, then those of the other folds to train and validation."""
    number, folds = fold
    dealt = _deal(groups, {str(index): 1 / folds for index in range(1, folds + 1)}, seed)
    others = [[group for group in groups if group[0] not in test] for test in dealt.values()]
    shares = _training_shares(fractions)
    if min(map(len, others)) < len(shares):  # over all folds: better now than after others were trained
        few = f"{_counted(groups)}, too few for {folds} folds"
        raise BadDataset(f"{few}; add images, or give fewer --folds")
    return {"test": dealt[str(number)]} | _deal(others[number - 1], shares, seed)


def _deal(groups: Sequence[Sequence[str]], shares: Shares, seed: int) -> dict[str, set[str]]:
    """Deal groups out in seeded order, large ones first, each to the part that lacks the most images."""
    if len(groups) < len(shares):
        needed = f"{len(shares)} parts need {len(shares)}"
        raise BadDataset(f"{_counted(groups)}; {needed}. {_advice(shares, len(groups))}")
    total = sum(map(len, groups))
    dealt: dict[str, set[str]] = {part: set() for part in shares}
    shuffled = sorted(groups, key=lambda group: _shuffled(seed)(group[0]))
    for left, group in zip(range(len(groups), 0, -1), sorted(shuffled, key=len, reverse=True), strict=True):
        empty = [part for part in shares if not dealt[part]]
        parts = empty if left == len(empty) else list(shares)
        neediest = max(parts, key=lambda part: shares[part] * total - len(dealt[part]))
        dealt[neediest].update(group)
    return dealt


def _counted(groups: Sequence[Sequence[str]]) -> str:
    """Return in words how many images there are, and how many groups they form if some have to stay together."""
    images = sum(map(len, groups))
    count = "there is 1 image" if images == 1 else f"there are {images} images"
    if len(groups) == images:
        return count
    return f"{count}, but since those stay together that look alike or are of one case or volume, {len(groups)} to deal"


def _advice(shares: Shares, groups: int) -> str:
    """Return what to do if there are too few groups to give each part, or fold, one."""
    if "train" not in shares:
        return "Add images, or give fewer --folds"
    two_would_do = "test" in shares and groups > 1
    return "Add images" + (", or do without a test part: alnet train --fractions 0.7 0.3 0" if two_would_do else "")


def _connected(names: Sequence[str], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of names that links connect, directly or through others (union-find)."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def _same_case(names: Sequence[str], pattern: str) -> list[tuple[str, str]]:
    """Return a link from each name to the first of its case."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BadConfig(f"case pattern {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise BadConfig(f"case pattern {pattern!r} has no group; put the case in brackets, as in '^(patient[0-9]+)_'")
    first: dict[str, str] = {}
    links = []
    for name in names:
        match = compiled.search(name)
        if match is None or match[1] is None:
            raise BadConfig(f"case pattern {pattern!r} finds no case in {name!r}")
        links.append((first.setdefault(match[1], name), name))
    return links


def _same_volume(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return a link from each page to the first of its file; none if all pictures are pages."""
    if all(pair.image.frame is not None for pair in pairs):
        return []
    first: dict[str, str] = {}
    pages = (pair for pair in pairs if pair.image.frame is not None)
    return [(first.setdefault(pair.image.file, pair.name), pair.name) for pair in pages]


def _shares(fractions: Fractions) -> dict[str, float]:
    return {part: share for part, share in zip(PARTS, fractions, strict=True) if share > 0}


def _training_shares(fractions: Fractions) -> dict[str, float]:
    """Return the shares of train and validation in what is not tested."""
    total = fractions[0] + fractions[1]
    return {part: share / total for part, share in _shares(fractions).items() if part != "test"}


def _in_order(names: Sequence[str], parts: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """Return each part's names in the dataset's order."""
    return {part: tuple(name for name in names if name in parts.get(part, ())) for part in PARTS}


def _origin(seed: int, fold: Fold | None) -> str:
    return f"seed {seed}" if fold is None else f"fold {fold[0]} of {fold[1]}, seed {seed}"


def _check_fractions(fractions: Fractions) -> None:
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6) or fractions[0] == 0:
        raise BadConfig(f"fractions of train, validation, test must sum to 1, with something to train, not {fractions}")


def _shuffled(seed: int) -> Callable[[str], bytes]:
    """Return a sort key that shuffles names, on every platform alike."""
    return lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()

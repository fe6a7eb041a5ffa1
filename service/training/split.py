"""Which images train, which choose the best epoch, which score: no case and no near-duplicate on two sides."""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from service.errors import BadConfig, BadDataset
from service.training.dataset import Dataset
from service.training.duplicates import near_duplicates

PARTS = ("train", "validation", "test")
Fractions = tuple[float, float, float]


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


def split(dataset: Dataset, *, fractions: Fractions, seed: int, case_pattern: str | None = None) -> Split:
    """Divide a dataset into train, validation and test by `fractions` of its images, as closely as its groups allow.

    Images are dealt out in groups: near-duplicates (service/training/duplicates.py) stay together, and so do all
    images of a case if `case_pattern` is given: a regular expression whose first group finds the case in a pair's
    name. The slices of a series are cut into blocks, with one slice left unused wherever two blocks meet, unless
    `case_pattern` says which slices belong to one volume. The same seed gives the same split, on every machine.

    Raises:
        BadConfig: the fractions are negative, do not sum to 1 or leave nothing to train; or `case_pattern` is no
            regular expression with a group, or finds nothing in a name.
        BadDataset: there are too few groups for a part whose fraction is above 0 to have one.
    """
    _check_fractions(fractions)
    if dataset.is_series and case_pattern is None:
        return _split_series(dataset, fractions, seed)
    names = [pair.name for pair in dataset.pairs]
    links = [] if case_pattern is None else _same_case(names, case_pattern)
    links += near_duplicates(dataset.pairs)
    groups = _connected(names, links)
    dealt = _deal(groups, fractions, seed)
    together = "near-duplicates" if case_pattern is None else f"near-duplicates and cases by {case_pattern!r}"
    count = f"{len(names)} images in {len(groups)} groups, the largest of {max(map(len, groups))}"
    return Split(
        **{part: tuple(name for name in names if name in dealt[part]) for part in PARTS},
        how=f"seed {seed}; {together} kept together: {count}",
    )


def _split_series(dataset: Dataset, fractions: Fractions, seed: int) -> Split:
    """Cut a series into one block for each part, in seeded order, with a guard slice between blocks."""
    names = [pair.name for pair in dataset.pairs]
    order = sorted((part for part, share in zip(PARTS, fractions, strict=True) if share > 0), key=_shuffled(seed))
    guards = len(order) - 1
    if len(names) < len(order) + guards:
        raise BadDataset(f"{dataset.name} has {len(names)} slices; {len(order)} parts need {len(order) + guards}")
    sizes = _apportion(len(names) - guards, dict(zip(PARTS, fractions, strict=True)))
    blocks: dict[str, tuple[str, ...]] = dict.fromkeys(PARTS, ())
    unused, start = [], 0
    for part in order:
        stop = start + sizes[part]
        blocks[part] = tuple(names[start:stop])
        unused += names[stop : stop + 1]
        start = stop + 1
    how = f"seed {seed}; contiguous blocks of slices in the order {', '.join(order)}, one slice left out at each border"
    return Split(**blocks, unused=tuple(unused), how=how)


def _apportion(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Return whole numbers that sum to `total`, in proportion to `shares`, at least 1 for each share above 0."""
    counts = {part: int(share > 0) for part, share in shares.items()}
    while sum(counts.values()) < total:
        neediest = max(
            (part for part in shares if shares[part] > 0), key=lambda part: shares[part] * total - counts[part]
        )
        counts[neediest] += 1
    return counts


def _deal(groups: Sequence[Sequence[str]], fractions: Fractions, seed: int) -> dict[str, set[str]]:
    """Deal groups out in seeded order, large ones first, each to the part that lacks the most images."""
    shares = {part: share for part, share in zip(PARTS, fractions, strict=True) if share > 0}
    if len(groups) < len(shares):
        needed = f"{len(shares)} parts need {len(shares)}"
        raise BadDataset(f"there are {len(groups)} images, or groups of images that belong together; {needed}")
    total = sum(map(len, groups))
    dealt: dict[str, set[str]] = {part: set() for part in PARTS}
    shuffled = sorted(groups, key=lambda group: _shuffled(seed)(group[0]))
    for left, group in zip(range(len(groups), 0, -1), sorted(shuffled, key=len, reverse=True), strict=True):
        empty = [part for part in shares if not dealt[part]]
        parts = empty if left == len(empty) else list(shares)
        neediest = max(parts, key=lambda part: shares[part] * total - len(dealt[part]))
        dealt[neediest].update(group)
    return dealt


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


def _check_fractions(fractions: Fractions) -> None:
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6) or fractions[0] == 0:
        raise BadConfig(f"fractions of train, validation, test must sum to 1, with something to train, not {fractions}")


def _shuffled(seed: int) -> Callable[[str], bytes]:
    """Return a sort key that shuffles names, on every platform alike."""
    return lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()

"""Scoring a published checkpoint on a folder of images with masks, as the service would answer them."""

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from service.engine.engine import Engine
from service.engine.quality import MaskRule
from service.errors import BadDataset, BadParameter, printable
from service.store.card import Card
from service.store.durable import naming
from service.training.cache import PairCache
from service.training.dataset import Dataset, Pair, check, open_dataset
from service.training.origins import Origin
from service.training.pictures import draw_samples
from service.training.scores import ImageScore, averaged_over_flips, mean_and_std, score
from service.training.split import PARTS
from service.training.split_file import SplitFile

COLUMNS = ("image", "iou", "accuracy", "dice", "expected_iou")
CACHE_BYTES = 1 << 30


def evaluate(
    data: str,
    engine: Engine,
    *,
    split: Path | None = None,
    part: str | None = None,
    threshold: float | None = None,
    all_components: bool = False,
    flips: bool = False,
    out: Path | None = None,
    told: Callable[[Sequence[ImageScore]], None] = lambda _scores: None,
) -> list[ImageScore]:
    """Return one score per image; write scores.csv and overlays into `out`, if given.

    `told` gets the scores before anything is written, since writing may fail.

    With `split`, the split.json of a run, only the images of its `part` are scored: "test" unless said otherwise. With
    `flips` each answer is the mean over four flips, which the service does not give.

    Raises:
        BadDataset: the folder cannot be read, or an image of the split is missing from it, or is another one of that
            name.
        BadParameter: `split` is no split file, there is no such part, or a `part` is given without a `split`.
    """
    card = engine.card
    rule = MaskRule.of(card, threshold, all_components=all_components)
    predict = averaged_over_flips(engine.predict) if flips else engine.predict
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(data, split, part, [card])
    named = tqdm(pairs.named(), "scoring", len(pairs), unit="image", leave=False, disable=None)
    scores = score(named, predict, card.input, rule, card.expected_iou)
    told(scores)
    if out is not None:
        with naming(out):
            _write_csv(scores, out / "scores.csv")
            shown = tqdm(pairs.named(), "drawing", len(pairs), unit="image", leave=False, disable=None)
            draw_samples(shown, predict, card.input, out / "overlays", rule)
    return scores


def read_pairs(data: str, split: Path | None, part: str | None, cards: Sequence[Card]) -> PairCache:
    """Return the checked pairs of a folder, or of a `part` of it, to score the checkpoints of these `cards` on.

    Without a `split`, or with one that is not a checkpoint's own, they may include images that it was trained on: if
    the data are its own, or have the same name, stderr says so.

    Raises:
        BadDataset, BadParameter: as `evaluate`.
    """
    dataset = check(open_dataset(data), progress=sys.stderr.isatty())
    for line in dataset.cautions:
        tqdm.write(f"caution: {printable(line)}", file=sys.stderr)
    pairs = chosen(dataset, split, part)
    own = [Origin.of(card) for card in cards if card.data.digest == dataset.digest]
    advice = "with --split and the split.json of its run, only its test images are scored"
    if own and split is None:
        tqdm.write(f"caution: the checkpoint was trained on these very images; {advice}", file=sys.stderr)
    elif split is None and any(card.data.name == dataset.name for card in cards):
        tqdm.write(f"caution: images that the checkpoint was trained on may be among these; {advice}", file=sys.stderr)
    elif split is not None and not _is_split_of(SplitFile.read(split), own):
        tqdm.write(f"caution: {split} is not how the checkpoint's own data were split; {advice}", file=sys.stderr)
    return PairCache(pairs, CACHE_BYTES)


def _is_split_of(recorded: SplitFile, own: Iterable[Origin]) -> bool:
    """Return whether all of `own` were split like that, as far as it is recorded."""
    return all(origin.has_split(recorded.split, recorded.images) for origin in own)


def table(scores: Sequence[ImageScore]) -> str:
    """Return the scores as aligned text, a line per image, with mean and standard deviation below."""
    names = [printable(score.name) for score in scores]
    wide = max(map(len, [COLUMNS[0], *names]))
    lines = [f"{COLUMNS[0]:<{wide}}" + "".join(f"{name:>14}" for name in COLUMNS[1:])]
    lines += [
        f"{name:<{wide}}" + "".join(f"{value:>14.4f}" for value in _values(score))
        for name, score in zip(names, scores, strict=True)
    ]
    columns = [mean_and_std(column) for column in zip(*(_values(score) for score in scores), strict=True)]
    lines.append(f"{'mean':<{wide}}" + "".join(f"{mean:>14.4f}" for mean, _ in columns))
    lines.append(f"{'std':<{wide}}" + "".join(f"{std:>14.4f}" for _, std in columns))
    return "\n".join(lines)


def _values(score: ImageScore) -> tuple[float, ...]:
    found = score.agreement
    return found.iou, found.accuracy, found.dice, score.expected_iou


def _write_csv(scores: Sequence[ImageScore], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((score.name, *_values(score)) for score in scores)


def chosen(dataset: Dataset, path: Path | None, part: str | None) -> list[Pair]:
    """Return the pairs of a `part` of the split.json at `path` ("test" unless said otherwise); all without a path.

    Other masks of the same images are accepted, and so is a folder that holds only some of them. A run from before
    images had digests can only tell whether all the data are the same; if they are not, stderr says so.

    Raises:
        BadDataset: an image of the split is not in the `dataset`, or another image has its name.
        BadParameter: `path` is no split file, there is no such part, or a `part` is given without a path.
    """
    if path is None:
        if part is not None:
            raise BadParameter(f"--part {part} is a part of which split? Give the run's split.json with --split")
        return list(dataset.pairs)
    part = part or "test"
    if part not in PARTS:
        raise BadParameter(f"--part {part!r}: there are {', '.join(PARTS)}")
    try:
        recorded = SplitFile.read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadParameter(f"--split {path} is no split.json of a run ({error})") from error
    names, pairs = getattr(recorded.split, part), {pair.name: pair for pair in dataset.pairs}
    if missing := [name for name in names if name not in pairs]:
        raise BadDataset(f"{missing[0]} is in {path}, but not in the data")
    if not names:
        raise BadParameter(f"{path} has no {part} images")
    _check_images(dataset, recorded, names, path)
    return [pairs[name] for name in names]


def _check_images(dataset: Dataset, recorded: SplitFile, names: Sequence[str], path: Path) -> None:
    """Raise BadDataset if one of these names stands for another image in `dataset` than in the file at `path`."""
    if others := [name for name in names if recorded.images.get(name, dataset.images[name]) != dataset.images[name]]:
        advice = "give the data that its run was trained on"
        raise BadDataset(f"{others[0]} is not the image that {path} speaks of; {advice}")
    if not recorded.images and recorded.data_digest not in {"", dataset.digest}:
        tqdm.write(f"caution: {path} is of other data, or of these before they changed", file=sys.stderr)

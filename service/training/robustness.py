"""How much a checkpoint's masks suffer when images look as another camera or framing would have shown them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from service.engine.engine import Engine
from service.engine.quality import MaskRule
from service.imaging.placement import Image, Mask
from service.store.durable import naming
from service.training.cache import PairCache
from service.training.changes import Change, changes_of
from service.training.evaluate import read_pairs
from service.training.scores import mean_and_std, score

Robustness = Mapping[str, Sequence[float]]
"""The mean IoU over the images under each change, one figure per engine; the first "change" is none at all."""


def measure(data: str, engines: Sequence[Engine], *, split: Path | None = None, part: str | None = None) -> Robustness:
    """Return each engine's mean IoU on the images under each change; `split` and `part` are those of `evaluate`.

    The engines, at least one, are of one modality; the changes are those of that modality.

    Raises:
        BadDataset, BadParameter: as `service.training.evaluate.evaluate`.
    """
    pairs = read_pairs(data, split, part, [engine.card for engine in engines])
    found: dict[str, list[float]] = {}
    changes = changes_of(engines[0].card.modality)
    images = len(changes) * len(engines) * len(pairs)
    with tqdm(total=images, unit="image", leave=False, disable=None) as progress:
        for name, change in changes.items():
            progress.set_description(name)
            found[name] = [_mean_iou(engine, pairs, change, progress.update) for engine in engines]
    return found


def _mean_iou(engine: Engine, pairs: PairCache, change: Change, count: Callable[[], object]) -> float:
    card = engine.card
    scores = score(_changed(pairs, change, count), engine.predict, card.input, MaskRule.of(card))
    return mean_and_std(found.agreement.iou for found in scores)[0]


def _changed(pairs: PairCache, change: Change, count: Callable[[], object]) -> Iterator[tuple[str, tuple[Image, Mask]]]:
    for name, pair in pairs.named():
        yield name, change(*pair)
        count()


def robustness_table(found: Robustness, columns: Sequence[str]) -> str:
    """Return the figures as Markdown: a line per change, a column per checkpoint, the mean over all changes below."""
    unchanged = next(iter(found))
    lines = [f"| change | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [_row(name, values) for name, values in found.items()]
    changed = [values for name, values in found.items() if name != unchanged]
    means = [mean_and_std(column)[0] for column in zip(*changed, strict=True)]
    return "\n".join([*lines, _row("mean of all changes", means)])


def _row(name: str, values: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |"


def write_robustness(found: Robustness, columns: Sequence[str], folder: Path) -> None:
    """Write robustness.md, robustness.json and robustness.png into the folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {name: dict(zip(columns, values, strict=True)) for name, values in found.items()}
    with naming(folder):
        (folder / "robustness.md").write_text(robustness_table(found, columns) + "\n", encoding="utf-8")
        (folder / "robustness.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        _draw(found, columns, folder / "robustness.png")


def _draw(found: Robustness, columns: Sequence[str], path: Path) -> None:
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.subplots()
    places = range(len(found))
    for column, label in enumerate(columns):
        axes.plot([values[column] for values in found.values()], places, "o", alpha=0.8, label=label)
    axes.set_yticks(places, list(found))
    axes.invert_yaxis()
    axes.set(xlabel="mean IoU")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)

"""Test images beside what each network makes of them, errors in colour (the paper's Figs. 5 to 7)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.engine.choosing import Wish, load_engine
from service.engine.engine import Engine
from service.engine.quality import MaskRule, agreement
from service.imaging.placement import Image, Mask
from service.reproduction.accuracy_report import trial_checkpoint
from service.reproduction.networks_report import TITLES
from service.training.dataset import Dataset, load
from service.training.pictures import MISSED, RIGHT, WRONG, errors
from service.training.run_folder import SPLIT
from service.training.scores import probability_of
from service.training.split import Split

LEGEND = {"foreground found": RIGHT, "foreground missed": MISSED, "background taken for foreground": WRONG}
PANEL_INCHES = 2.6
DPI = 150
SIDE_PX = 512
TALLEST = 4.0
"""The largest ratio of a panel's height to its width, so that a tall strip does not make an equally tall figure."""


@dataclass(frozen=True, slots=True)
class Example:
    """A test image of uint8 (H, W, 3) with its reference, uint8 (H, W), and the number of the run that it tested."""

    name: str
    image: Image
    reference: Mask
    run: int


def choose_examples(dataset: Dataset, runs: Sequence[Path], count: int) -> list[Example]:
    """Return `count` test images, or as many as there are, taking turns among the run folders of one network."""
    tested = [_tested(run) for run in runs]
    turns = ((run, name) for names in zip_longest(*tested) for run, name in enumerate(names) if name is not None)
    pairs = {pair.name: pair for pair in dataset.pairs}
    return [Example(name, *load(pairs[name]), run) for run, name in islice(turns, count)]


def draw_gallery(examples: Sequence[Example], runs: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Draw a row for each example into a PNG: image, reference, then the mask of each network, with its IoU.

    `runs` are each network's run folders, of which an example's `run` is the index.
    """
    rows, columns = len(examples), 2 + len(runs)
    tallest = min(TALLEST, max(example.image.shape[0] / example.image.shape[1] for example in examples))
    size = (PANEL_INCHES * columns, PANEL_INCHES * tallest * rows + 1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, title in zip(grid[0], ["image", "reference", *(TITLES[network] for network in runs)], strict=True):
        axes.set_title(title, fontsize="medium")
    for axes, example in zip(grid, examples, strict=True):
        _show(axes[0], example.image, example.name)
        _show(axes[1], np.repeat(255 * (example.reference[..., None] > 0), 3, axis=2).astype(np.uint8), "")
    for column, folders in zip(grid.T[2:], runs.values(), strict=True):
        for axes, example, mask in zip(column, examples, _masks(examples, folders), strict=True):
            iou = agreement(mask, example.reference > 0).iou
            _show(axes, errors(example.image, mask, example.reference), f"IoU {iou:.3f}")
    handles = [Patch(color=f"#{bytes(colour).hex()}", label=label) for label, colour in LEGEND.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)


def _masks(examples: Sequence[Example], folders: Sequence[Path]) -> Iterator[NDArray[np.bool_]]:
    """Yield the mask, (H, W), of each example, by the checkpoint of the run that had it as a test image."""
    engines: dict[int, Engine] = {}
    for example in examples:
        if example.run not in engines:
            engines = {example.run: load_engine(trial_checkpoint(folders[example.run]), Wish(engine="torch"))}
        engine = engines[example.run]
        probability = probability_of(example.image, engine.predict, engine.card.input)
        yield MaskRule.of(engine.card).mask(probability)


def _tested(run: Path) -> tuple[str, ...]:
    """Return the names of a run's test images, those that lie far apart in a series first."""
    names = Split.from_json(json.loads((run / SPLIT).read_bytes())).test
    third = max(1, len(names) // 3)
    return tuple(name for start in range(third) for name in names[start::third])


def _show(axes: Axes, pixels: Image, note: str) -> None:
    small = PillowImage.fromarray(pixels)
    small.thumbnail((SIDE_PX, SIDE_PX))  # matplotlib would keep all pixels of all panels, many times over
    axes.imshow(small)
    axes.set(xticks=[], yticks=[], xlabel=note)

"""The 8-bit form of a published checkpoint, for OpenVINO on CPUs: calibrated, judged on test images, then published."""

import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from service.engine.choosing import EXACT, load_engine
from service.engine.engine import Engine
from service.engine.parity import Parity
from service.engine.quality import MaskRule
from service.engine.weights import build_network, read_state
from service.errors import BadParameter, QuantisationLoss
from service.imaging.placement import prepare
from service.store.card import Card, Quantised
from service.store.checkpoint import Checkpoint, Contents, Int8Model, sha256
from service.store.publish import publish_next
from service.training.cache import PairCache
from service.training.dataset import Dataset, load_image, open_dataset
from service.training.evaluate import chosen, read_pairs
from service.training.origins import Origin
from service.training.pairs import Pair
from service.training.parts import shown
from service.training.publication import check_store
from service.training.scores import mean_and_std, score
from service.training.split_file import SplitFile

SEED = 0
NOT_QUANTISED = re.compile(r"\bencoder\.stages\.[01]\..*\.weight$")
"""Layers whose weights stay: later stages cannot restore what the first two lose (docs/benchmark-notes.md)."""

TOOLS = ("nncf", "openvino")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was published, and the mean IoU on the test images in float32 and in integers."""

    folder: Path
    exact_iou: float
    int8_iou: float
    n: int


def quantise(
    checkpoint: Checkpoint,
    data: str,
    split: Path,
    store: Path,
    *,
    images: int,
    largest_loss: float,
    say: Callable[[str], None],
) -> Outcome:
    """Publish the checkpoint again, as its modality's next version in `store`, with an 8-bit form beside its weights.

    The ranges of the activations come from `images` training images of `split`, a run's split.json; both forms are then
    compared on its test images.

    Raises:
        QuantisationLoss: the mean IoU falls by more than `largest_loss`, or the answer to the probe differs from the
            recorded one, so that no server would accept the form; nothing is published.
        BadParameter: `split` is not how the checkpoint's own data were divided; or as
            `service.training.evaluate.evaluate`.
        BadDataset: as there.
        OSError: the store cannot be written; except for a full disk, this is found before the calibration.
    """
    card = checkpoint.card
    check_store(store, card.modality, "check its owner and permissions; nothing was calibrated")
    dataset = open_dataset(data)
    chosen(dataset, split, "test")  # a split that cannot judge is refused before the calibration, which takes minutes
    _check_own(card, dataset, split)
    taught = chosen(dataset, split, "train")
    tiles = calibration_tiles(card, taught, images)
    say(f"calibrating on {len(tiles)} training images")
    network = build_network(card, read_state(checkpoint))
    model = quantised_model(card, network, tiles)
    engine = _engine(card, model)
    if fault := Parity(card, network).fault(engine, masks=False):
        raise QuantisationLoss(
            f"in integers the probe is answered otherwise: {fault}; images unlike the training images would be, too. "
            "Nothing was published"
        )
    say("comparing on the test images")
    pairs = read_pairs(data, split, "test", [card])
    exact, found, n = _iou(load_engine(checkpoint, EXACT), pairs), _iou(engine, pairs), len(pairs)
    _judge(exact, found, n, largest_loss, may_use_more=len(tiles) < len(taught))
    quantised = _describe(model, calibration_images=len(tiles), n=n, iou_mean=found, iou_loss=exact - found)
    contents = Contents(checkpoint.read_weights(), model)
    folder = publish_next(store, card.model_copy(update={"int8": quantised}), contents)
    return Outcome(folder, exact, found, n)


def _check_own(card: Card, dataset: Dataset, path: Path) -> None:
    """Check that the split.json at `path` says how the card's own data were divided.

    Cards from before they held a digest of the parts cannot tell for sure. For data other than the card's, stderr says
    so here; for the card's own, `read_pairs` says so.

    Raises:
        BadParameter: it does not: images that the checkpoint has learnt from could judge it.
    """
    own = f"how the data of {card.modality} {card.version}, {card.data.name}, were divided"
    advice = f"give the split.json of its run, or write it anew: {_divided_anew(card)}"
    recorded = SplitFile.read(path)
    if card.data.parts_digest is None:
        if card.data.digest != dataset.digest:
            tqdm.write(
                f"caution: {path} is of other data, so nothing shows that it is {own}; {advice}", file=sys.stderr
            )
    elif not Origin.of(card).has_split(recorded.split, recorded.images):
        raise BadParameter(
            f"--split {path} is not {own}: it may test with what the checkpoint has learnt from. Nothing was "
            f"published; {advice}"
        )


def _divided_anew(card: Card) -> str:
    """Return the shortest command that writes the split.json of the card's run anew, by what the card tells."""
    asked = card.training.config
    words = ["alnet", "train", "--data", "FOLDER", "--modality", card.modality, "--seed", str(card.training.seed)]
    for option in ("fractions", "case_pattern", "folds", "fold"):
        if (value := asked.get(option)) is not None:
            words += ["--" + option.replace("_", "-"), *map(str, value if isinstance(value, list) else [value])]
    if (series := asked.get("series")) is not None:
        words.append("--series" if series else "--no-series")
    return shlex.join([*words, "--epochs", "1", "--steps-per-epoch", "1", "--no-publish", "--run", "NEW"])


def _judge(exact: float, found: float, n: int, largest_loss: float, *, may_use_more: bool) -> None:
    """Raise QuantisationLoss if the mean IoU of integers, `found`, is too far below that of float32."""
    advice = "; more --images for calibration may help" if may_use_more else "; all training images calibrated it"
    if exact - found > largest_loss:
        raise QuantisationLoss(
            f"in integers the mean IoU on {n} test images is {found:.4f}, in float32 {exact:.4f}: {exact - found:.4f} "
            f"are lost, and {largest_loss} allowed; nothing was published{advice}"
        )


def _describe(model: Int8Model, *, calibration_images: int, n: int, iou_mean: float, iou_loss: float) -> Quantised:
    return Quantised(
        tools={tool: version(tool) for tool in TOOLS},
        calibration_images=calibration_images,
        xml_sha256=sha256(model.graph),
        bin_sha256=sha256(model.constants),
        n=n,
        iou_mean=iou_mean,
        iou_loss=iou_loss,
    )


def calibration_tiles(card: Card, pairs: Sequence[Pair], images: int) -> list[NDArray[np.uint8]]:
    """Return one tile, uint8 (h, w, 3) of the card's grid, of each of at most `images` pairs, drawn at random."""
    random = np.random.default_rng(SEED)
    drawn = random.permutation(len(pairs))[:images]
    prepared = (prepare(load_image(pairs[index]), card.input)[1] for index in drawn)
    return [tiles[random.integers(len(tiles))] for tiles in prepared]


def quantised_model(card: Card, network: nn.Module, tiles: Sequence[NDArray[np.uint8]]) -> Int8Model:
    """Return the 8-bit form of the card's re-parameterised `network`, calibrated on `tiles`."""
    import nncf  # noqa: PLC0415 - an extra's
    import openvino as ov  # noqa: PLC0415

    from service.engine.openvino_graph import convolutions_of, fold_constants, to_openvino  # noqa: PLC0415

    nncf.set_log_level(logging.WARNING)  # otherwise it lists on stdout each layer that is left as it is
    exact = to_openvino(card, network)
    left = convolutions_of(exact, NOT_QUANTISED)
    fold_constants(exact)
    with _progress_on_stderr():
        model = nncf.quantize(
            exact,
            nncf.Dataset([tile[None] for tile in tiles]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(tiles),
            ignored_scope=nncf.IgnoredScope(names=left),
        )
    with tempfile.TemporaryDirectory() as folder:
        graph, constants = Path(folder) / "model.xml", Path(folder) / "model.bin"
        ov.serialize(model, graph, constants)
        return Int8Model(graph.read_bytes(), constants.read_bytes())


@contextmanager
def _progress_on_stderr() -> Iterator[None]:
    """Send what NNCF draws on stdout, which is for results, to stderr if that is a terminal, else nowhere."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(sys.stderr if sys.stderr.isatty() else nowhere),
    ):
        yield


def _iou(engine: Engine, pairs: PairCache) -> float:
    """Return the mean IoU on these pairs."""
    card = engine.card
    scores = score(shown(pairs, "scoring"), engine.predict, card.input, MaskRule.of(card))
    return mean_and_std(found.agreement.iou for found in scores)[0]


def _engine(card: Card, model: Int8Model) -> Engine:
    from service.engine.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an extra, as OpenVINO itself
    from service.engine.openvino_graph import read_int8  # noqa: PLC0415

    return OpenVinoEngine(card, read_int8(model), precision="int8", threads=torch.get_num_threads())

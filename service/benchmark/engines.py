"""Every engine that this machine has for a checkpoint, timed in turns, and how close its answers are to float32."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from service.engine.choosing import Wish, choices, load_engine
from service.engine.engine import Engine
from service.engine.parity import Parity, probe_tile
from service.engine.predictor import DTYPES, Predictor
from service.engine.torch_engine import TorchEngine, pick_device, precisions
from service.engine.weights import build_network, read_state
from service.errors import AlnetError
from service.reproduction.machine import Machine, this_machine
from service.reproduction.milliseconds import milliseconds
from service.store.checkpoint import Checkpoint

BASELINE = "PyTorch eager, the network as published"

Tile = NDArray[np.uint8]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimedEngine(_Record):
    """One engine: seconds of each timed batch, by batch size, and the IoU of its mask of the probe with float32's."""

    name: str
    seconds: dict[int, list[float]]
    probe_iou: float

    def image_ms(self, batch: int) -> float:
        """Return the median milliseconds per image in batches of this size."""
        return 1000 * median(self.seconds[batch]) / batch


class EnginesReport(_Record):
    """All engines of one checkpoint. The first is the baseline; `missing` says why others could not be had."""

    machine: Machine
    modality: str
    version: str
    grid: tuple[int, int]
    batches: list[int]
    engines: list[TimedEngine]
    missing: dict[str, str]


def measure_engines(
    checkpoint: Checkpoint, tiles: Sequence[Tile], *, device: str, batches: Sequence[int], repeat: int, warm_up: int
) -> EnginesReport:
    """Return the time that each engine takes for batches of `tiles`, uint8 (h, w, 3) of the card's grid.

    The engines take turns, each once per round, so that whatever else the machine does affects them alike.

    Raises:
        BadCheckpoint: the float32 network does not reproduce its probe.
        BadSettings: `device` is not there.
    """
    card = checkpoint.card
    parity = Parity(card, build_network(card, read_state(checkpoint)))
    found, missing = dict[str, Engine](), dict[str, str]()
    for name, engine in _engines(checkpoint, device):
        if isinstance(engine, str):
            missing[name] = engine
        else:
            found[name] = engine
    seconds = _in_turns(found, tiles, batches, repeat, warm_up)
    probe = probe_tile(card)
    return EnginesReport(
        machine=this_machine(),
        modality=card.modality,
        version=card.version,
        grid=card.input.grid,
        batches=list(batches),
        engines=[
            TimedEngine(name=name, seconds=seconds[name], probe_iou=parity.mask_iou(engine.predict([probe])[0]))
            for name, engine in found.items()
        ],
        missing=missing,
    )


def _engines(checkpoint: Checkpoint, device: str) -> Iterator[tuple[str, Engine | str]]:
    """Yield the baseline, then each engine that this machine might have, or the reason why it does not have it."""
    where = pick_device(device)
    half = precisions(where, "auto")[0]
    card = checkpoint.card
    predictor = Predictor(
        build_network(card, read_state(checkpoint)),
        card.normalisation,
        temperature=card.temperature,
        device=where,
        dtype=DTYPES[half],
    )
    yield f"{BASELINE}, {half}", TorchEngine(card, predictor, f"{where} {half}")
    order = choices(where, Wish(), has_int8=card.int8 is not None, has_openvino=find_spec("openvino") is not None)
    for engine, precision in order:
        name = f"{engine}, {precision}"
        try:
            yield name, load_engine(checkpoint, Wish(engine=engine, device=where.type, precision=precision))
        except AlnetError as error:
            yield name, str(error)


def _in_turns(
    engines: Mapping[str, Engine], tiles: Sequence[Tile], batches: Sequence[int], repeat: int, warm_up: int
) -> dict[str, dict[int, list[float]]]:
    taken: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in engines}
    for turn in tqdm(range(warm_up + repeat), "rounds", leave=False, disable=None):
        for batch in batches:
            asked = [tiles[number % len(tiles)] for number in range(batch)]
            for name, engine in engines.items():
                began = perf_counter()
                engine.predict(asked)
                if turn >= warm_up:
                    taken[name][batch].append(perf_counter() - began)
    return taken


def engines_table(report: EnginesReport) -> str:
    """Return the report as Markdown; ratios say how many times as fast as the baseline an engine is."""
    height, width = report.grid
    head = (
        f"{report.machine.describe()}. {report.modality} version {report.version}, {height}×{width}; medians of "
        f"{len(report.engines[0].seconds[report.batches[0]])} batches, the engines in turn."
    )
    titles = [f"batch {batch}: ms an image | × as fast" for batch in report.batches]
    lines = [
        f"| engine | {' | '.join(titles)} | IoU with float32 |",
        f"| --- |{' ---: |' * (2 * len(report.batches) + 1)}",
        *(_row(engine, report.engines[0], report.batches) for engine in report.engines),
    ]
    missing = [f"Not here: {name}: {reason}." for name, reason in report.missing.items()]
    return "\n".join([head, "", *lines, *([""] if missing else []), *missing]) + "\n"


def _row(engine: TimedEngine, baseline: TimedEngine, batches: Sequence[int]) -> str:
    cells = [
        f"{milliseconds(engine.image_ms(batch))} | {baseline.image_ms(batch) / engine.image_ms(batch):.2f}"
        for batch in batches
    ]
    return f"| {engine.name} | {' | '.join(cells)} | {engine.probe_iou:.4f} |"

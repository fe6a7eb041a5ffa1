"""Each stage of the served network compared with the most its device could do: the roofline (Williams et al., 2009).

A stage takes at least its operations divided by the rate of a large matrix product, and at least the bytes that it has
to read and write once divided by the bandwidth of a large copy. Rate and bandwidth are measured in the same run. The
longer of the two times is the stage's floor.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from service.engine.cuda_graphs import recorded
from service.engine.parity import probe_tile
from service.engine.predictor import DTYPES, Predictor, levels_of
from service.engine.torch_engine import pick_device, precisions, served_form
from service.engine.weights import build_network, read_state
from service.network.repvgg import Encoder
from service.reproduction.machine import Machine, this_machine
from service.store.checkpoint import Checkpoint

COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
MULTIPLIED = {"cuda": 8192, "cpu": 2048}
"""Sizes of the copy, and of the square matrices, that measure the ceilings."""

ROUNDS = 20


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Record):
    """One part of a pass: its multiply-accumulates, the bytes it has to move, and the seconds that it takes."""

    name: str
    macs: int
    moved_bytes: int
    seconds: float


class Roofline(_Record):
    """All stages of one pass of `batch` images; ceilings in operations and bytes per second; `whole_s`: of one pass."""

    machine: Machine
    modality: str
    version: str
    grid: tuple[int, int]
    precision: str
    batch: int
    operations_s: float
    bytes_s: float
    whole_s: float
    stages: list[Stage]

    def floor_s(self, stage: Stage) -> float:
        """Return the least time that this device could take for the stage."""
        return max(self.compute_s(stage), stage.moved_bytes / self.bytes_s)

    def compute_s(self, stage: Stage) -> float:
        """Return the time that the stage's operations would take at the device's highest rate."""
        return 2 * stage.macs / self.operations_s


@dataclass(frozen=True, slots=True)
class _Call:
    """A module and what it was called with in a pass."""

    name: str
    module: nn.Module
    arguments: tuple[Any, ...]
    output: Any


def measure_roofline(checkpoint: Checkpoint, *, device: str, batch: int) -> Roofline:
    """Return the time of each stage of the checkpoint's network, in the form that this device serves.

    Raises:
        BadCheckpoint: the weights are not the card's.
        BadSettings: `device` is not there.
    """
    card, place = checkpoint.card, pick_device(device)
    precision = precisions(place, "auto")[0]
    dtype = DTYPES[precision]
    network = served_form(build_network(card, read_state(checkpoint)), card.input.grid, place)
    predictor = Predictor(network, card.normalisation, temperature=card.temperature, device=place, dtype=dtype)
    pixels = torch.from_numpy(np.stack([probe_tile(card)] * batch)).to(place)
    with torch.inference_mode():
        stages = [_stage(call, place) for call in _calls(predictor, pixels)]
        return Roofline(
            machine=this_machine(),
            modality=card.modality,
            version=card.version,
            grid=card.input.grid,
            precision=precision,
            batch=batch,
            operations_s=_operations_s(place, dtype),
            bytes_s=_bytes_s(place),
            whole_s=seconds_of(lambda: predictor.levels(pixels), place),
            stages=stages,
        )


class _Levels(nn.Module):
    """`levels_of` as a stage: what `Predictor.levels` does with a network's answer."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return levels_of(logits[:, 0].float(), self.temperature)


def _calls(predictor: Predictor, pixels: Tensor) -> list[_Call]:
    """Run one pass, and return the calls that were made in it, in order."""
    calls: list[_Call] = []
    parts = {"normalise": predictor.normalise, **dict(_parts(predictor.network))}
    hooks = [
        part.register_forward_hook(
            lambda module, arguments, output, name=name: calls.append(_Call(name, module, arguments, output))
        )
        for name, part in parts.items()
    ]
    logits = predictor.network(predictor.normalise(pixels.permute(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    levels = _Levels(predictor.temperature)
    return [*calls, _Call("probabilities, uint8", levels, (logits,), levels(logits))]


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, Encoder):
            yield from ((f"encoder, F{number}", stage) for number, stage in enumerate(child.stages, start=1))
        else:
            yield name.replace("_", " "), child


def _stage(call: _Call, device: torch.device) -> Stage:
    weights = [*call.module.parameters(), *call.module.buffers()]
    moved: Sequence[Any] = [*pytree.tree_leaves(call.arguments), *pytree.tree_leaves(call.output), *weights]
    return Stage(
        name=call.name,
        macs=_macs(call),
        moved_bytes=sum(tensor.nbytes for tensor in moved if isinstance(tensor, Tensor)),
        seconds=seconds_of(lambda: call.module(*call.arguments), device),
    )


def _macs(call: _Call) -> int:
    """Count multiply-accumulates as `service.reproduction.macs` does, from shapes alone."""
    shapes = copy.deepcopy(call.module).to("meta")
    arguments = pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), call.arguments)
    with FlopCounterMode(display=False) as counter:
        shapes(*arguments)
    operations: int = counter.get_total_flops()
    return operations // 2


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of `work`; on a GPU as a replayed graph, without the time that Python takes."""
    if device.type != "cuda":
        return median(_clocked(work) for _ in range(ROUNDS))
    graph, _kept = recorded(work, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(ROUNDS + 1)]  # type: ignore[no-untyped-call]
    for mark in marks:
        graph.replay()
        mark.record()
    torch.cuda.synchronize(device)
    taken_ms: list[float] = [first.elapsed_time(second) for first, second in pairwise(marks)]
    return median(taken_ms) / 1000


def _clocked(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _operations_s(device: torch.device, dtype: torch.dtype) -> float:
    side = MULTIPLIED[device.type]
    matrix = torch.randn(side, side, device=device).to(dtype)
    return 2 * float(side) ** 3 / seconds_of(lambda: matrix @ matrix, device)


def _bytes_s(device: torch.device) -> float:
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device)


def roofline_table(roofline: Roofline) -> str:
    """Return the roofline as Markdown, with times in microseconds per image."""
    height, width = roofline.grid
    head = (
        f"{roofline.machine.describe()}. {roofline.modality} version {roofline.version}, {height}×{width}, "
        f"{roofline.precision}, batches of {roofline.batch}. Ceilings: {roofline.operations_s / 1e12:.1f} TFLOP/s in a "
        f"matrix product, {roofline.bytes_s / 1e9:,.0f} GB/s in a copy. All stages in one pass: "
        f"{_an_image(roofline, roofline.whole_s)} µs an image."
    )
    lines = [
        "| stage | GMAC | MB moved | µs an image | floor, µs | bound by | of the floor's speed |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |",
        *(_row(roofline, stage) for stage in roofline.stages),
    ]
    return "\n".join([head, "", *lines]) + "\n"


def _row(roofline: Roofline, stage: Stage) -> str:
    floor = roofline.floor_s(stage)
    bound = "arithmetic" if roofline.compute_s(stage) >= floor else "memory"
    return (
        f"| {stage.name} | {stage.macs / roofline.batch / 1e9:.3f} | {stage.moved_bytes / roofline.batch / 1e6:.2f} | "
        f"{_an_image(roofline, stage.seconds)} | {_an_image(roofline, floor)} | {bound} | {floor / stage.seconds:.2f} |"
    )


def _an_image(roofline: Roofline, seconds: float) -> str:
    return f"{1e6 * seconds / roofline.batch:,.1f}"

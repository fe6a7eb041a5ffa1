"""Which engine serves a checkpoint: the fastest one installed whose masks are those of the float32 network."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import nn

from service.engine.device_loss import why_lost
from service.engine.engine import Engine
from service.engine.image_work import likeness
from service.engine.memory import causes, is_out_of_memory, release
from service.engine.parity import Parity
from service.engine.steps import Steps, to_end
from service.engine.torch_engine import TorchEngine, pick_device, precisions
from service.engine.weights import build_network, parse_state
from service.errors import AlnetError, BadCheckpoint, BadSettings, in_one_line, reason
from service.settings import Settings
from service.store.card import Card
from service.store.checkpoint import Checkpoint, Contents

log = logging.getLogger(__name__)

CPU_ENGINES = ("openvino", "torch")
CUDA_ENGINES = ("cuda-graphs", "torch")
"""Engines by device, fastest first in each precision (docs/benchmarks.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of an engine; the values are those of `service.settings.Settings`."""

    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Wish":
        """Return what the settings ask."""
        return cls(
            engine=settings.engine, device=settings.device, precision=settings.precision, threads=settings.threads
        )


ANY = Wish()
"""Whatever is fastest here."""

EXACT = Wish(engine="torch", device="cpu", precision="float32")
"""What all other engines are compared with."""


_DEVICES = {"openvino": "cpu", "cuda-graphs": "cuda"}
"""The device of each engine that runs on one kind of device only."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a checkpoint; `build` raises whatever its library raises if this machine cannot do it.

    `masks`: see `Parity.fault`.
    """

    name: str
    build: Callable[[], Engine]
    masks: bool


def load_engine(checkpoint: Checkpoint, wish: Wish = ANY) -> Engine:
    """Read the checkpoint's files and do all that `loading` does, without a pause.

    Raises:
        BadCheckpoint, BadSettings: as `loading`; BadCheckpoint also if a file's digest is not the card's.
    """
    return to_end(loading(checkpoint.card, checkpoint.contents(), wish))


def loading(card: Card, contents: Contents, wish: Wish) -> Steps[Engine]:
    """Build, in steps, the first engine that meets the `wish` and passes the gate of `Parity`.

    An engine that this machine cannot build or run is skipped, with a line in the log. If `threads` is above 0, PyTorch
    gets that many CPU threads in this process.

    Raises:
        BadCheckpoint: weights and card contradict each other, no engine reproduces the card's probe, or the card's
            image descriptors are not those of this version.
        BadSettings: what is wished for is not available.
        DeviceLost: the device is lost.
        Exception: as `first_sound`.
    """
    if wish.threads:
        torch.set_num_threads(wish.threads)
    likeness(card.training_images)  # checked here: the engine does not need it, but whoever serves it does
    network = build_network(card, parse_state(card, contents.weights))
    device = _device(wish)
    return (yield from first_sound(card, network, candidates(card, network, contents, wish, device)))


def first_sound(card: Card, network: nn.Module, tried: Sequence[Candidate]) -> Steps[Engine]:
    """Return, in steps, the engine of the first candidate to pass the gate; one that fails is freed before the next.

    A lack of memory ends the search: it may be over in a minute, while another engine, once chosen, would serve for
    weeks (docs/adr/0014-the-fastest-engine-that-answers-like-float32.md).

    Raises:
        BadCheckpoint: the `network` does not reproduce the card's probe, or no engine does. `may_pass` is set if the
            last engine, which works wherever PyTorch does, could not even answer, say for want of a thread or a file.
        Exception: a candidate's own error, if it says that memory ran out or the device is lost.
    """
    yield
    parity = Parity(card, network)
    fault = _Fault("there is none to try", may_pass=False)
    for candidate in tried:
        yield
        found = yield from _try(candidate, parity)
        if not isinstance(found, _Fault):
            log.info("%s version %s runs on %s", card.modality, card.version, found.device)
            return found
        fault = found
        log.warning("%s version %s does not run on %s: %s", card.modality, card.version, candidate.name, fault.reason)
    what = "no engine could be made to answer" if fault.may_pass else "no engine reproduces its recorded probe"
    raise BadCheckpoint(f"{card.modality}/{card.version}: {what}: {fault.reason}", may_pass=fault.may_pass)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why an engine must not serve; `may_pass` if that says nothing about the checkpoint."""

    reason: str
    may_pass: bool


def _try(candidate: Candidate, parity: Parity) -> Steps[Engine | _Fault]:
    """Return the candidate's engine, or why it must not serve; in that case nothing of it is left in memory."""
    try:
        engine = candidate.build()
        yield
        fault = parity.fault(engine, masks=candidate.masks)
    except Exception as error:
        if why_lost(error) or is_out_of_memory(error):
            raise
        release(error)
        whole = in_one_line("; ".join(reason(cause) for cause in causes(error) if isinstance(cause, Exception)))
        of_its_own = isinstance(error, AlnetError) and error.__cause__ is None
        return _Fault(whole, may_pass=not of_its_own)
    return _Fault(fault, may_pass=False) if fault else engine


def choices(device: torch.device, wish: Wish, *, has_int8: bool, has_openvino: bool) -> list[tuple[str, str]]:
    """Return the engines and precisions to try, fastest first: integers, then what `precisions` says.

    Raises:
        BadSettings: there is none; the message says why.
    """
    if wish.engine == "openvino" and not has_openvino:
        raise BadSettings("ALNET_ENGINE=openvino, but OpenVINO is not installed: pip install 'alnet-service[cpu]'")

    def is_there(engine: str, precision: str) -> bool:
        if precision == "int8":
            return engine == "openvino" and has_openvino and has_int8
        return engine != "openvino" or (has_openvino and precision != "float16")

    found = [
        (engine, precision)
        for precision in [*(["int8"] if wish.precision == "auto" else []), *precisions(device, wish.precision)]
        for engine in (CPU_ENGINES if device.type == "cpu" else CUDA_ENGINES)
        if wish.engine in {"auto", engine} and is_there(engine, precision)
    ]
    if not found:
        raise BadSettings(
            f"ALNET_ENGINE={wish.engine} with ALNET_PRECISION={wish.precision}: there is no such engine for this "
            f"checkpoint on {device.type}; int8 needs a CPU, OpenVINO, and a checkpoint that `alnet quantize` published"
        )
    return found


def _device(wish: Wish) -> torch.device:
    if wish.device != "auto":
        return pick_device(wish.device)
    only = _DEVICES.get(wish.engine, "auto")
    return pick_device(only, setting=f"ALNET_ENGINE={wish.engine}", instead="auto or torch")


def candidates(card: Card, network: nn.Module, contents: Contents, wish: Wish, device: torch.device) -> list[Candidate]:
    """Return what to try on `device`, fastest first; then on the CPU, if `device` is a GPU that nobody insists on.

    Raises:
        BadSettings: there is nothing to try; the message says why.
    """
    devices = [device]
    if device.type != "cpu" and (wish.device, wish.engine, wish.precision) == ("auto", "auto", "auto"):
        devices.append(torch.device("cpu"))  # in case the GPU is there but of no use
    has_openvino = find_spec("openvino") is not None
    return [
        Candidate(
            f"{place} {precision} {engine}",
            _builder(engine, precision, place, card, network, contents),
            masks=wish.precision == "auto" and precision != "int8",
        )
        for place in devices
        for engine, precision in choices(place, wish, has_int8=contents.int8 is not None, has_openvino=has_openvino)
    ]


def _builder(  # noqa: PLR0917 - each is what its name says
    engine: str, precision: str, device: torch.device, card: Card, network: nn.Module, contents: Contents
) -> Callable[[], Engine]:
    match engine:
        case "openvino":
            return partial(_build_openvino, card, network, contents, precision)
        case "cuda-graphs":
            return partial(TorchEngine.build_recorded, card, network, device, precision)
        case _:
            return partial(TorchEngine.build, card, network, device, precision)


def _build_openvino(card: Card, network: nn.Module, contents: Contents, precision: str) -> Engine:
    from service.engine.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an extra, which may be missing
    from service.engine.openvino_graph import read_int8, to_openvino  # noqa: PLC0415

    model = read_int8(contents.int8) if precision == "int8" and contents.int8 else to_openvino(card, network)
    return OpenVinoEngine(card, model, precision=precision, threads=torch.get_num_threads())

"""The paper's networks on this machine (§ 4.3, Table 5): parameters, multiply-accumulates, latency and peak memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from tqdm import tqdm

from service.engine.predictor import DTYPES, Predictor
from service.engine.torch_engine import pick_device, precisions
from service.network import build, count_parameters, reparameterize
from service.reproduction.machine import this_machine
from service.reproduction.macs import macs_an_image
from service.reproduction.measure import interleaved, peak_bytes
from service.reproduction.networks_report import Form, Measurement, Report, Setting
from service.reproduction.paper import Compared
from service.store.card import Normalisation

NORMALISATION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""The values do not matter for speed, but normalising is part of what a server does to every image."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A network on a device, with all that lies around it in a server; its weights are random."""

    network: str
    form: Form
    parameters: int
    predictor: Predictor

    @property
    def weights_bytes(self) -> int:
        """The bytes that the network holds between two images."""
        held = [*self.predictor.parameters(), *self.predictor.buffers()]
        return sum(tensor.nbytes for tensor in held)


def benchmark(
    compared: Sequence[Compared],
    *,
    places: Sequence[torch.device],
    precision: str,
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    warm_up: int,
    repeat: int,
) -> Iterator[Report]:
    """Measure the networks in each place, image size (height, width) and batch size; after each, yield the report.

    `precision` is that of `service.engine.torch_engine.precisions`; "auto" is what the server tries first in a place.
    AL-Net is measured in both its forms, all others as they are served.
    """
    report = Report(machine=this_machine(), warm_up=warm_up, repeat=repeat)
    for place in places:
        dtype = precisions(place, precision)[0]
        contenders = _contenders(compared, place, DTYPES[dtype])
        for (height, width), batch in product(sizes, batches):
            setting = Setting(device=place.type, precision=dtype, height=height, width=width, batch=batch)
            measured = measure_in_turn(contenders, setting, place, warm_up=warm_up, repeat=repeat)
            report = report.model_copy(update={"measurements": (*report.measurements, *measured)})
            yield report


def devices(asked: str) -> list[torch.device]:
    """Return the devices to measure on: for "auto" the CPU and, where there is one, the GPU.

    Raises:
        BadSettings: CUDA is asked for and not there.
    """
    asked_for = ("cpu", "cuda") if asked == "auto" and torch.cuda.is_available() else (asked,)
    return [pick_device(name) for name in asked_for]


def _contenders(compared: Sequence[Compared], device: torch.device, dtype: torch.dtype) -> list[Contender]:
    contenders = []
    for one in compared:
        trained = build(one.architecture, **one.config)
        forms: list[tuple[Form, nn.Module]] = [("training", trained)] if one.key == "al-net" else []
        for form, network in [*forms, ("served", reparameterize(trained))]:
            predictor = Predictor(network, NORMALISATION, temperature=1.0, device=device, dtype=dtype)
            contenders.append(Contender(one.key, form, count_parameters(network), predictor))
    return contenders


def measure_in_turn(
    contenders: Sequence[Contender], setting: Setting, device: torch.device, *, warm_up: int, repeat: int
) -> list[Measurement]:
    """Return one measurement for each contender: first its memory, in a pass of its own, then the times in turn."""
    pixels = torch.randint(0, 256, (setting.batch, *setting.size, 3), dtype=torch.uint8, device=device)
    runs = {index: _forward(contender.predictor, pixels) for index, contender in enumerate(contenders)}
    passes = len(runs) * (1 + warm_up + repeat)
    what = f"{setting.place}, batch {setting.batch}"
    with tqdm(desc=what, total=passes, unit="pass", leave=False, disable=None) as bar:
        peaks = {}
        for index, run in runs.items():
            peaks[index] = peak_bytes(run, device)
            bar.update()
        fitting = {index: run for index, run in runs.items() if peaks[index] is not None}
        times = interleaved(fitting, warm_up=warm_up, repeat=repeat, on_run=bar.update)
    return [
        _measurement(contender, setting, times.get(index, ()), peaks[index], pixels.nbytes)
        for index, contender in enumerate(contenders)
    ]


def _measurement(
    contender: Contender, setting: Setting, times_s: Sequence[float], peak: int | None, input_bytes: int
) -> Measurement:
    return Measurement(
        network=contender.network,
        form=contender.form,
        parameters=contender.parameters,
        macs=macs_an_image(contender.predictor.network, setting.size),
        setting=setting,
        times_ms=tuple(round(1000 * seconds, 3) for seconds in times_s),
        peak_bytes=None if peak is None else contender.weights_bytes + input_bytes + peak,
    )


def _forward(predictor: Predictor, pixels: Tensor) -> Callable[[], None]:
    """Return a function that returns once the logits of `pixels`, uint8 (N, h, w, 3) on the device, are computed."""

    def run() -> None:
        with torch.inference_mode():
            predictor(pixels)
        if pixels.is_cuda:
            torch.cuda.synchronize(pixels.device)

    return run

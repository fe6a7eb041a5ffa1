"""What a benchmark of networks measures: the record in networks.json, from which tables and plots are made."""

from collections.abc import Iterator
from itertools import groupby
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service.reproduction.machine import Machine
from service.reproduction.paper import PAPER_NETWORKS

TITLES = {compared.key: compared.title for compared in PAPER_NETWORKS}

Form = Literal["training", "served"]
"""The form of a network: as it is trained, or as it is served, re-parameterised."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setting(_Frozen):
    """What networks are measured on: a device ("cpu" or "cuda"), a precision, an image size in pixels, a batch size."""

    device: str
    precision: str
    height: int
    width: int
    batch: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def place(self) -> str:
        """All but the batch size, in words."""
        return f"{self.device.upper()}, {self.precision}, {self.height}×{self.width}"


class Measurement(_Frozen):
    """One network in one setting.

    `macs` are multiply-accumulates for one image; `times_ms` are forward passes of a whole batch, in the order taken;
    `peak_bytes` are weights, input and the most that a forward pass holds beside them. If memory ran out, `times_ms` is
    empty, and `peak_bytes` None if it ran out already in the first pass.
    """

    network: str
    form: Form
    parameters: int
    macs: int
    setting: Setting
    times_ms: tuple[float, ...]
    peak_bytes: int | None

    @property
    def title(self) -> str:
        """The network's name in tables and plots."""
        return TITLES[self.network] + (" (training form)" if self.form == "training" else "")

    @property
    def median_ms(self) -> float | None:
        """Median time of a batch; None if memory ran out."""
        return median(self.times_ms) if self.times_ms else None


class Report(_Frozen):
    """All that was measured in one process, with the machine that it holds for."""

    machine: Machine
    warm_up: int
    repeat: int
    measurements: tuple[Measurement, ...] = ()

    def places(self) -> Iterator[list[Measurement]]:
        """Yield the measurements of each device and image size, which one table or one panel shows together."""
        for _, group in groupby(self.measurements, lambda one: one.setting.place):
            yield list(group)

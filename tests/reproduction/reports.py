"""Makes reports of networks with chosen times."""

from collections.abc import Sequence

from service.reproduction.machine import Machine
from service.reproduction.networks_report import Form, Measurement, Report, Setting

MACHINE = Machine(date="today", commit="abc", cpu="A CPU", cores=2, threads=2, gpu=None, torch="2.13", python="3.11")


def measurement(
    network: str = "al-net",
    *times_ms: float,
    form: Form = "served",
    device: str = "cpu",
    size: tuple[int, int] = (512, 512),
    batch: int = 1,
    peak_bytes: int | None = 3 << 20,
) -> Measurement:
    """Return a measurement with 3.45 M parameters and 11.6 GMAC."""
    height, width = size
    setting = Setting(device=device, precision="float32", height=height, width=width, batch=batch)
    return Measurement(
        network=network,
        form=form,
        parameters=3_450_000,
        macs=11_600_000_000,
        setting=setting,
        times_ms=times_ms,
        peak_bytes=peak_bytes,
    )


def report(*measurements: Measurement) -> Report:
    """Return a report of these measurements."""
    return Report(machine=MACHINE, warm_up=3, repeat=10, measurements=measurements)


def cells(markdown: str) -> list[Sequence[str]]:
    """Return the cells of each table row in `markdown`, heads included, lines of dashes left out."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] != "---"]

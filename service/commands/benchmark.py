"""`alnet benchmark`: measure speed on this machine."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands import benchmark_engines, benchmark_roofline, benchmark_serve
from service.commands.interruption import interruptible
from service.commands.large_imports import large_imports
from service.commands.networks import pick
from service.commands.options import out_option
from service.errors import BadParameter

SIZES = ("512x512", "605x700")
BATCHES = (1, 8)
SMALLEST_PX = 32

app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)
app.command("engines")(benchmark_engines.engines)
app.command("roofline")(benchmark_roofline.roofline)
app.command("serve")(benchmark_serve.serve)


@app.callback()
def benchmark() -> None:
    """Measure speed and memory on this machine."""


@app.command("networks")
def networks(
    *,
    out: Annotated[Path, out_option("Folder for networks.md, networks.json and networks.png.")] = Path("benchmark"),
    size: Annotated[
        list[str] | None,
        typer.Option(help="Height x width of the images, in pixels; may be repeated.", show_default=" ".join(SIZES)),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Images per forward pass; may be repeated.", show_default="1 8"),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Passes timed for each network; the median counts.")] = 10,
    warm_up: Annotated[int, typer.Option(min=0, help="Passes that each begins with, which do not count.")] = 3,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of a network, such as al-net or cenet; may be repeated.", show_default="all of the paper's"
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Arithmetic; auto: the fastest on the device, as for the server."),
    ] = "auto",
    scores: Annotated[
        Path | None,
        typer.Option(
            help='JSON file with the IoU of each network, as {"al-net": 0.7}, for the plot; by default the paper\'s.'
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: the CPU and, if there is one, the GPU.")
    ] = "auto",
) -> None:
    """Compare the networks of the AL-Net paper (its Table 5 and Fig. 8): parameters, GMAC, latency, peak memory.

    All networks take turns in one process, so that noise affects them alike; AL-Net appears before and after
    re-parameterisation. The files are rewritten after each image and batch size, so an interruption loses only one.
    """
    from service.reproduction.paper import PAPER_NETWORKS
    from service.reproduction.scores_file import read_scores

    compared = pick(network, PAPER_NETWORKS) if network else PAPER_NETWORKS
    sizes = [parse_size(text) for text in size or SIZES]
    iou = read_scores(scores) if scores else None
    # PyTorch's profiler counts the CPU's memory. Below this level it announces each of its starts on stderr. The level
    # is read when torch is loaded, which happens only below.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with large_imports():
        from service.reproduction.networks import benchmark as measure
        from service.reproduction.networks import devices
        from service.reproduction.networks_folder import write
        from service.reproduction.networks_table import networks_table

    places = devices(device)
    out.mkdir(parents=True, exist_ok=True)
    reports = measure(
        compared,
        places=places,
        precision=precision,
        sizes=list(dict.fromkeys(sizes)),
        batches=list(dict.fromkeys(batch or BATCHES)),
        warm_up=warm_up,
        repeat=repeat,
    )
    with interruptible(f"what was measured until then is in {out}"):
        for report in reports:
            write(report, out, iou)
    typer.echo(networks_table(report))
    typer.echo(f"table, figures and plot: {out}")


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of `HEIGHTxWIDTH`.

    Raises:
        BadParameter: the text is no size, or the size is too small for networks with five strides of 2.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= SMALLEST_PX):
        raise BadParameter(f"--size {text!r}: write height x width as 512x512, each {SMALLEST_PX} or more")
    return int(height), int(width)

"""`alnet benchmark engines`: compare every engine that this machine has with plain PyTorch."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store, out_option

BATCHES = (1, 8)
LARGEST_PX = 1 << 22
STAND_IN = "retina"
"""Drawn for modalities that the code cannot draw: an engine's time does not depend on the images."""


def engines(
    *,
    modality: Annotated[str, typer.Option(help="Modality of the checkpoint.")] = "cell",
    store: Store,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if there is a GPU, else the CPU.")
    ] = "auto",
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Images per batch; may be repeated.", show_default="1 8")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Batches timed for each engine and size; the median counts.")] = 10,
    warm_up: Annotated[int, typer.Option(min=0, help="Batches that each begins with, which do not count.")] = 3,
    out: Annotated[Path, out_option("Folder for engines.md and engines.json.")] = Path("benchmark"),
) -> None:
    """Time every engine for a checkpoint, in turns, on images that the code draws: pixels in, probabilities out.

    The table has milliseconds per image, the speed as a multiple of plain PyTorch's, and the IoU of the engine's mask
    of the card's probe with that of float32.
    """
    with large_imports():
        from service.benchmark.engines import engines_table, measure_engines
        from service.benchmark.uploads import draw_uploads
        from service.imaging.decode import decode
        from service.imaging.placement import prepare
        from service.store.model_store import ModelStore
        from service.training.drawn import Kind

    checkpoint = ModelStore(store).current(modality)
    out.mkdir(parents=True, exist_ok=True)  # if it cannot be made, fail before the work
    shown = modality if modality in get_args(Kind) else STAND_IN
    drawn = [decode(body.content, max_pixels=LARGEST_PX).pixels for body in draw_uploads(shown, 8)]
    tiles = [tile for pixels in drawn for tile in prepare(pixels, checkpoint.card.input)[1]]
    batches = list(dict.fromkeys(batch or BATCHES))
    report = measure_engines(checkpoint, tiles, device=device, batches=batches, repeat=repeat, warm_up=warm_up)
    (out / "engines.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / "engines.md").write_text(engines_table(report), encoding="utf-8")
    typer.echo(engines_table(report))
    typer.echo(f"table and figures: {out}")

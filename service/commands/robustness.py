"""`alnet robustness`: how well a checkpoint bears other cameras, other light and other framing."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store, out_option


def robustness(
    data: Annotated[str, typer.Argument(help="Folder laid out as for `alnet train`, or drawn:retina and so on.")],
    *,
    modality: Annotated[str, typer.Option(help="Modality of the checkpoint.")],
    version: Annotated[
        list[str] | None,
        typer.Option(help="Version of the checkpoint; by default the newest. Repeat it to compare versions."),
    ] = None,
    store: Store,
    split: Annotated[Path | None, typer.Option(help="A run's split.json; only its --part is measured.")] = None,
    part: Annotated[str | None, typer.Option(help="With --split: train, validation or test; by default test.")] = None,
    out: Annotated[Path | None, out_option("Folder for robustness.md, .json and .png.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if there is a GPU, else the CPU.")
    ] = "auto",
) -> None:
    """Score a checkpoint on images as another camera, light or framing would have shown them: one line per change.

    The changes are always the same (service/training/changes.py): closer, within margins, other resolutions, gamma,
    contrast, shading, colour casts, grey, noise, blur, JPEG; for skin, hairs. They simulate what an unknown clinic may
    send, and are no substitute for its images. Training can prepare a network for the changes that harm it most: `alnet
    train --camera --colour --zoom --frames --hairs --blur`.
    """
    with large_imports():
        from service.engine.choosing import Wish, load_engine
        from service.store.model_store import ModelStore
        from service.training.robustness import measure, robustness_table, write_robustness

    wanted: list[str | None] = [*dict.fromkeys(version)] if version else [None]  # one column each
    checkpoints = [ModelStore(store).open(modality, one) for one in wanted]
    engines = [load_engine(checkpoint, Wish(device=device)) for checkpoint in checkpoints]
    columns = [f"{checkpoint.card.modality} {checkpoint.card.version}" for checkpoint in checkpoints]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # if it cannot be made, fail now, not after minutes
    found = measure(data, engines, split=split, part=part)
    typer.echo(robustness_table(found, columns))
    if out is not None:
        write_robustness(found, columns, out)
        typer.echo(f"table and plot: {out}")

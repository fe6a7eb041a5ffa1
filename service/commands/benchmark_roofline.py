"""`alnet benchmark roofline`: compare each stage of the network with the most that the device could do."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store, out_option

BATCHES = (1, 8)


def roofline(
    *,
    modality: Annotated[str, typer.Option(help="Modality of the checkpoint.")] = "cell",
    store: Store,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if there is a GPU, else the CPU.")
    ] = "auto",
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Images per pass; may be repeated.", show_default="1 8")
    ] = None,
    out: Annotated[Path, out_option("Folder for roofline.md and roofline.json.")] = Path("benchmark"),
) -> None:
    """Time each stage of the network as PyTorch serves it, beside the least time that this device could take.

    That least time is the longer of two: the stage's operations at the rate of a large matrix product, and its bytes,
    each moved once, at the bandwidth of a large copy. The same run measures that rate and that bandwidth.
    """
    with large_imports():
        from service.benchmark.roofline import measure_roofline, roofline_table
        from service.store.model_store import ModelStore

    checkpoint = ModelStore(store).current(modality)
    out.mkdir(parents=True, exist_ok=True)  # if it cannot be made, fail before the work
    found = [measure_roofline(checkpoint, device=device, batch=size) for size in dict.fromkeys(batch or BATCHES)]
    tables = "\n".join(map(roofline_table, found))
    (out / "roofline.json").write_text(
        "[" + ",\n".join(one.model_dump_json(indent=2) for one in found) + "]\n", encoding="utf-8"
    )
    (out / "roofline.md").write_text(tables, encoding="utf-8")
    typer.echo(tables)
    typer.echo(f"table and figures: {out}")

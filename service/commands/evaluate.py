"""`alnet evaluate`: score a checkpoint on images with masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store, out_option

if TYPE_CHECKING:
    from service.training.scores import ImageScore


def evaluate(
    data: Annotated[str, typer.Argument(help="Folder laid out as for `alnet train`, or drawn:retina and so on.")],
    *,
    modality: Annotated[str, typer.Option(help="Modality of the checkpoint.")],
    version: Annotated[str | None, typer.Option(help="Version of the checkpoint; by default the newest.")] = None,
    store: Store,
    split: Annotated[Path | None, typer.Option(help="A run's split.json; only its --part is evaluated.")] = None,
    part: Annotated[str | None, typer.Option(help="With --split: train, validation or test; by default test.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Probability from which a pixel is foreground; by default the checkpoint's threshold."
        ),
    ] = None,
    all_components: Annotated[
        bool, typer.Option("--all-components", help="Keep small components, even if the checkpoint leaves them out.")
    ] = False,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Average over four flips, at four times the cost; the service does not do this."),
    ] = False,
    out: Annotated[Path | None, out_option("Folder for scores.csv and an overlay an image.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if there is a GPU, else the CPU.")
    ] = "auto",
    engine: Annotated[
        Literal["auto", "torch", "cuda-graphs", "openvino"],
        typer.Option(help="What runs the network; auto: the fastest that is installed."),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "int8"],
        typer.Option(help="Arithmetic; auto: as the service."),
    ] = "auto",
) -> None:
    """Score a published checkpoint against reference masks: one line per image, then mean ± standard deviation.

    The network runs on the service's own engine. The last line is the mean absolute error of the expected IoU. Overlays
    show the image, the reference, the mask, and the errors: green is right, red was missed, yellow is too much.
    """
    with large_imports():
        from service.engine.choosing import Wish, load_engine
        from service.store.model_store import ModelStore
        from service.training.evaluate import evaluate as run
        from service.training.evaluate import table
        from service.training.scores import expected_iou_error

    wish = Wish(engine=engine, device=device, precision=precision)

    def tell(scores: Sequence["ImageScore"]) -> None:
        typer.echo(table(scores))
        typer.echo(f"expected IoU is off by {expected_iou_error(scores):.4f} on average")

    run(
        data,
        load_engine(ModelStore(store).open(modality, version), wish),
        split=split,
        part=part,
        threshold=threshold,
        all_components=all_components,
        flips=flips,
        out=out,
        told=tell,
    )
    if out is not None:
        typer.echo(f"scores and overlays: {out}")

"""`alnet quantize`: a published checkpoint once more, with an 8-bit form for CPUs."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store

LARGEST_LOSS = 0.003


def quantize(
    data: Annotated[str, typer.Argument(help="The folder that the checkpoint was trained on.")],
    *,
    modality: Annotated[str, typer.Option(help="Whose checkpoint.")],
    split: Annotated[Path, typer.Option(help="The run's split.json: its train part calibrates, its test part judges.")],
    version: Annotated[str | None, typer.Option(help="Which version; the newest if left out.")] = None,
    store: Store,
    images: Annotated[int, typer.Option(min=1, help="Training images for calibration, at most.")] = 64,
    loss: Annotated[
        float, typer.Option(min=0, max=1, help="By how much the mean IoU on test images may be lower than in float32.")
    ] = LARGEST_LOSS,
) -> None:
    """Publish a checkpoint as its next version, with an 8-bit form that OpenVINO runs on CPUs; weights stay the same.

    NNCF takes the ranges of the activations from training images. Both forms are compared on the test images, and what
    loses more IoU than --loss is not published. A server with the extra `cpu` prefers the 8-bit form from then on.
    """
    with large_imports():
        from service.store.model_store import ModelStore
        from service.training.quantise import quantise

    outcome = quantise(
        ModelStore(store).open(modality, version), data, split, store, images=images, largest_loss=loss, say=typer.echo
    )
    typer.echo(
        f"IoU on {outcome.n} test images: {outcome.exact_iou:.4f} in float32, {outcome.int8_iou:.4f} in integers"
    )
    typer.echo(f"published: {outcome.folder}")

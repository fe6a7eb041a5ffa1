"""`alnet quantize`: publish a checkpoint again, with an 8-bit form for CPUs."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store

LARGEST_LOSS = 0.003


def quantize(
    data: Annotated[str, typer.Argument(help="Folder of the data that the checkpoint was trained on.")],
    *,
    modality: Annotated[str, typer.Option(help="Modality of the checkpoint.")],
    split: Annotated[
        Path, typer.Option(help="The run's split.json: its train part calibrates, its test part compares.")
    ],
    version: Annotated[str | None, typer.Option(help="Version of the checkpoint; by default the newest.")] = None,
    store: Store,
    images: Annotated[int, typer.Option(min=1, help="Most training images to calibrate with.")] = 64,
    loss: Annotated[
        float, typer.Option(min=0, max=1, help="By how much the mean IoU on the test images may be below float32's.")
    ] = LARGEST_LOSS,
) -> None:
    """Publish a checkpoint as its next version, with an 8-bit form that OpenVINO runs on CPUs; weights stay the same.

    NNCF finds the ranges of the activations on training images. Both forms are compared on the test images; if the
    8-bit form loses more IoU than --loss, nothing is published. A server with the extra `cpu` then prefers that form.
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

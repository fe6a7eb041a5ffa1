"""`alnet train`: from a folder of images and masks to a published checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import BadParameter

if TYPE_CHECKING:
    from service.imaging.policy import InputPolicy


def train(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="Folder with images/ and masks/ (or STARE, ISBI 2012, ISIC 2018 as shipped), or drawn:retina, "
            "drawn:cell, drawn:skin: images that the code draws."
        ),
    ],
    modality: Annotated[
        str | None, typer.Option(help="retina, cell, skin, or a name of your own; of drawn data its own name.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick: minutes on two CPU cores; paper: the AL-Net paper's recipe, 150 epochs.")
    ] = "quick",
    run: Annotated[
        Path | None, typer.Option(help="Run folder; runs/MODALITY-PRESET by default. Interrupted runs go on.")
    ] = None,
    store: Annotated[
        Path, typer.Option(envvar="ALNET_STORE", help="Model store to publish into, as the next version.")
    ] = Path("model_store"),
    publish: Annotated[bool, typer.Option(help="Or leave the checkpoint in the run folder.")] = True,
    label: Annotated[str | None, typer.Option(help="What the foreground is, in a word.")] = None,
    grid: Annotated[
        str | None,
        typer.Option("--input", help="fit:605x700, stretch:512x512 or tile:512x512:64 (height x width : overlap)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all; the learning rate falls over them.")] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(help="Batches an epoch; all views of all images if 0.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in one step; fewer need less memory.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of random crops in pixels; 0 for the whole grid.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the first epoch; lower it if the loss jumps.")] = None,
    fusion_stride: Annotated[int | None, typer.Option(help="Grid of the decoder's fusion: 2, or 1 (finer).")] = None,
    fractions: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Shares of train, validation and test images.")
    ] = None,
    case_pattern: Annotated[
        str | None, typer.Option(help="Regex whose first group names the case (patient): cases are never split.")
    ] = None,
    series: Annotated[
        bool | None, typer.Option(help="Images are neighbouring slices of one volume; split into blocks.")
    ] = None,
    validate_every: Annotated[int | None, typer.Option(help="Epochs between validations.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Data-loading processes beside the training itself.")] = None,
    cache_gib: Annotated[
        float | None, typer.Option(help="Decoded images kept in memory by each such process, GiB.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the split, the first weights and all random changes: same seed, same run.")
    ] = None,
) -> None:
    """Train AL-Net on images with masks, and publish the best epoch as a checkpoint with a card.

    Give the same command again after an interruption, and the run goes on from its last epoch. The run folder holds the
    configuration, the split, epochs.csv, curves.png, samples/ and the resumable state. Options left out come from the
    preset and the modality.
    """
    from service.training.config import configure

    drawn = data.split(":")[1] if data.startswith("drawn:") else None
    name = modality or drawn
    if name is None:
        raise BadParameter("--modality is missing: retina, cell, skin, or a name of your own")
    changes = {
        "label": label,
        "input": parse_input(grid) if grid else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "fusion_stride": fusion_stride,
        "fractions": fractions,
        "case_pattern": case_pattern,
        "series": series,
        "validate_every": validate_every,
        "precision": precision,
        "workers": workers,
        "cache_gib": cache_gib,
        "seed": seed,
    }
    given: dict[str, object] = {key: value for key, value in changes.items() if value is not None}
    given |= {"steps_per_epoch": steps_per_epoch or None} if steps_per_epoch is not None else {}
    given |= {"crop_px": crop or None} if crop is not None else {}
    config = configure(data, name, preset, given)
    from service.training.job import run as run_job  # only now: a wrong option is refused without loading torch

    try:
        result = run_job(config, run or Path("runs") / f"{name}-{preset}", store if publish else None, typer.echo)
    except KeyboardInterrupt:
        typer.echo("alnet: interrupted; the same command goes on after the last finished epoch", err=True)
        raise typer.Exit(130) from None
    if result is not None:
        typer.echo(result.summary)


def parse_input(text: str) -> "InputPolicy":
    """Return the input policy that `kind:HEIGHTxWIDTH` or `kind:HEIGHTxWIDTH:OVERLAP` names.

    Raises:
        BadParameter: the text is none.
        BadConfig: its sizes do not fit each other.
    """
    from service.imaging.policy import InputPolicy

    kind, _, sizes = text.partition(":")
    size, _, overlap = sizes.partition(":")
    height, _, width = size.partition("x")
    numbers = (height, width, overlap or "0")
    if not all(number.isdecimal() for number in numbers):
        raise BadParameter(f"--input {text!r}: write it as fit:605x700, stretch:512x512 or tile:512x512:64")
    match kind:
        case "fit" | "stretch" | "tile":
            return InputPolicy(kind=kind, height=int(height), width=int(width), overlap=int(overlap or 0))
        case _:
            raise BadParameter(f"--input {text!r}: the kind is fit, stretch or tile")

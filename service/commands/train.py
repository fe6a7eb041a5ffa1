"""`alnet train`: from a folder of images and masks to a published checkpoint."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.commands import train_options as options
from service.commands.contradictions import check_drawn, check_options
from service.commands.interruption import RUN_GOES_ON, interruptible
from service.commands.large_imports import large_imports
from service.errors import BadParameter

if TYPE_CHECKING:
    from service.imaging.policy import InputPolicy
    from service.training.config import Config

INPUT = re.compile(
    "(?P<kind>fit|stretch|tile):(?P<height>[0-9]{1,9})x(?P<width>[0-9]{1,9})(:(?P<overlap>[0-9]{1,9}))?"
    "(:(?P<margins>keep|plain|trim))?(:(?P<levels>lighten|stretch))?"
)


def train(
    *,
    data: options.Data,
    modality: options.Modality = None,
    label: options.Label = None,
    grid: options.Grid = None,
    fractions: options.Fractions = None,
    case_pattern: options.CasePattern = None,
    series: options.Series = None,
    folds: options.Folds = None,
    fold: options.Fold = None,
    seed: options.Seed = None,
    preset: options.Preset = "quick",
    architecture: options.Architecture = None,
    network_option: options.NetworkOption = None,
    fusion_stride: options.FusionStride = None,
    encoder_weights: options.EncoderWeights = None,
    fine_tune: options.FineTune = None,
    soup: options.Soup = None,
    teacher: options.TeacherRun = None,
    teaching: options.Teaching = None,
    epochs: options.Epochs = None,
    steps_per_epoch: options.StepsPerEpoch = None,
    coarse_epochs: options.CoarseEpochs = None,
    batch_size: options.BatchSize = None,
    crop_px: options.Crop = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    schedule: options.Schedule = None,
    decay: options.Decay = None,
    weight_decay: options.WeightDecay = None,
    average: options.Average = None,
    cl_dice: options.ClDice = None,
    thin: options.Thin = None,
    validate_every: options.ValidateEvery = None,
    shift_px: options.Shift = None,
    scale: options.Scale = None,
    zoom: options.Zoom = None,
    rotation_deg: options.Rotation = None,
    elastic_px: options.Elastic = None,
    colour: options.Colour = None,
    illumination: options.Illumination = None,
    camera: options.Camera = None,
    frames: options.Frames = None,
    hairs: options.Hairs = None,
    blur_px: options.Blur = None,
    precision: options.Precision = None,
    workers: options.Workers = None,
    cache_gib: options.CacheGib = None,
    run: options.Run = None,
    store: options.Store,
    publish: options.Publish = True,
) -> None:
    """Train AL-Net on images with masks, and publish the best epoch as a checkpoint with a card.

    Options that are left out have the values of the preset and the modality. The run folder holds the configuration,
    the split, epochs.csv, curves.png, samples/, TensorBoard's scalars and the resumable state. After an interruption,
    give the same command again: the run goes on from its last epoch. `torchrun -m service.cli train …` uses several
    GPUs or nodes.
    """
    from service.training.config import configure

    name = modality_of(data, modality)
    if fusion_stride is not None and architecture not in {None, "al-net"}:
        raise BadParameter(f"--fusion-stride is al-net's, not {architecture}'s")
    check_options(locals())
    network = parse_network_options(network_option) if network_option else None
    if network is not None and "fusion_stride" in network:
        raise BadParameter("fusion_stride is an option of its own: --fusion-stride")
    folder = run or Path("runs") / (f"{name}-{preset}" if fold is None else f"{name}-{preset}-fold{fold}")
    changes = options.given(
        locals(),
        input=None if grid is None else parse_input(grid),
        network=network,
        encoder_weights=identity_of("encoder_weights", [encoder_weights], folder) if encoder_weights else None,
        soup=identity_of("soup", soup, folder) if soup else None,
        teacher=_identity(teacher, name) if teacher else None,
    )
    config = configure(data, name, preset, changes)
    if config.network:
        _check_network(config.architecture, config.network)
    _run(config, folder, store if publish else None, encoder_weights=encoder_weights, soup=soup or [], teacher=teacher)


def modality_of(data: str, modality: str | None) -> str:
    """Return the modality that was asked for, or else that of drawn data.

    Raises:
        BadParameter: neither names a modality, or the two contradict each other.
    """
    check_drawn(data, modality)
    if (name := modality or options.drawn_modality(data)) is None:
        raise BadParameter("--modality is missing: retina, cell, skin, or a name of your own")
    return name


def identity_of(field: str, files: Sequence[Path], run: Path) -> str:
    """Return the names and digests of the files (at least one) as a configuration's `field` holds them.

    If a file is gone, they are those that the run in the folder `run`, if it has begun, recorded of files of these
    names: it no longer needs the files.

    Raises:
        BadConfig: a file cannot be read, and no run with files of these names has begun in `run`.
    """
    from service.training.config import files_identity, names_in

    if not all(file.exists() for file in files):
        from service.training.run_folder import RunFolder  # it loads torch

        folder = RunFolder(run)
        recorded = getattr(folder.recorded_config(), field) if folder.has_begun else None
        if recorded is not None and names_in(recorded) == [file.name for file in files]:
            return str(recorded)
    return files_identity(files)


def _identity(teacher: Path, modality: str) -> str:
    from service.training.teacher import teacher_identity  # only if there is a teacher: it loads torch

    return teacher_identity(teacher, modality)


def _run(
    config: "Config",
    folder: Path,
    store: Path | None,
    *,
    encoder_weights: Path | None,
    soup: Sequence[Path],
    teacher: Path | None,
) -> None:
    """Run the job; in the process that speaks for all, print the result."""
    from service.training.torchrun import here_and_nodes, leads

    here_and_nodes()  # raises if nodes differ in their numbers of processes
    with large_imports():
        from service.training.job import run  # only now: a wrong option is refused without loading torch

    with interruptible(RUN_GOES_ON, is_told=leads):
        result = run(config, folder, store, typer.echo, encoder_weights=encoder_weights, soup=soup, teacher=teacher)
    if result is not None:
        typer.echo(result.summary)


def _check_network(architecture: str, network: Mapping[str, object]) -> None:
    """Check that the architecture exists and takes these options, before anything else is loaded.

    Raises:
        BadConfig: it does not exist, or takes no such option.
    """
    with large_imports():  # torch, but not training's libraries, which take three times as long
        from service.network import check_values

    check_values(architecture, **network)


def parse_input(text: str) -> "InputPolicy":
    """Return the input policy that `kind:HEIGHTxWIDTH` names.

    `:OVERLAP`, `:plain` or `:trim`, and `:stretch` may follow, in this order.

    Raises:
        BadParameter: the text has another form, an overlap without tiles, or a side too small for any network.
        BadConfig: its sizes do not fit each other.
    """
    from pydantic import TypeAdapter

    from service.imaging.policy import STRIDE, InputPolicy

    if (found := INPUT.fullmatch(text)) is None:
        raise BadParameter(
            f"--input {text!r}: write it as fit:605x700:trim, stretch:512x512 or tile:512x512:64:plain:stretch"
        )
    said = {name: value for name, value in found.groupdict().items() if value is not None}
    if "overlap" in said and said["kind"] != "tile":
        raise BadParameter(f"--input {text!r}: only tiles overlap; leave :{said['overlap']} out, or write tile:…")
    if min(int(said["height"]), int(said["width"])) < STRIDE:
        smallest = f"{said['kind']}:{STRIDE}x{STRIDE}"
        raise BadParameter(f"--input {text!r}: a network halves its image five times; {smallest} is the smallest")
    return TypeAdapter(InputPolicy).validate_python(said)


def parse_network_options(pairs: Sequence[str]) -> dict[str, int | str | list[int]]:
    """Return the values in texts `name=value`, by name: a whole number, several separated by commas, or a word.

    Raises:
        BadParameter: a text is not such a pair, or a name appears twice.
    """
    found: dict[str, int | str | list[int]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (equals and name.isidentifier() and text) or name in found:
            raise BadParameter(f"--network-option {pair!r}: write each once, as encoder=resnet34 or widths=16,16,32")
        numbers = text.split(",")
        if all(number.isdecimal() for number in numbers):
            found[name] = [int(number) for number in numbers] if "," in text else int(text)
        else:
            found[name] = text
    return found

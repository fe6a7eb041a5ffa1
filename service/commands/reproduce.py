"""`alnet reproduce`: the accuracy tables of the AL-Net paper, on your own machine."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.commands import train_options as options
from service.commands.contradictions import check_drawn
from service.commands.interruption import RUN_GOES_ON, interruptible
from service.commands.large_imports import large_imports
from service.commands.networks import pick
from service.commands.options import out_option
from service.commands.train import parse_input
from service.errors import BadParameter

if TYPE_CHECKING:
    from service.reproduction.experiment import Experiment
    from service.reproduction.paper import Compared


def reproduce(
    context: typer.Context,
    *,
    data: Annotated[str, typer.Option(help="Folder with STARE, ISBI 2012 or ISIC 2018, or drawn:retina and so on.")],
    modality: Annotated[
        Literal["retina", "cell", "skin"] | None,
        typer.Option(help="What the data show; by default what is drawn, or what --table is about."),
    ] = None,
    table: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of a table in the paper: 2 to 4 (ablations, cell), 6 (retina), 7 (cell), 8 (skin); may be "
            "repeated.",
            show_default="all of the modality",
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of a network, such as al-net or cenet; may be repeated.", show_default="all of the tables"
        ),
    ] = None,
    series: options.Series = None,
    grid: options.Grid = None,
    seed: options.Seed = None,
    preset: options.Preset = "quick",
    epochs: options.Epochs = None,
    steps_per_epoch: options.StepsPerEpoch = None,
    coarse_epochs: options.CoarseEpochs = None,
    batch_size: options.BatchSize = None,
    crop_px: options.Crop = None,
    learning_rate: options.LearningRate = None,
    precision: options.Precision = None,
    workers: options.Workers = None,
    cache_gib: options.CacheGib = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Train each network on this many folds, so that every image is a test image once."),
    ] = None,
    out: Annotated[Path, out_option("Folder for the runs and tables, in a folder for each modality.")] = Path(
        "runs/reproduce"
    ),
) -> None:
    """Train the networks of the AL-Net paper alike, and print its accuracy tables with our figures beside its own.

    Each network's line is printed as soon as it is trained; progress goes to stderr. The folder OUT/MODALITY
    (OUT/MODALITY-5-fold with --folds 5) then holds table.md, table.json, scores.json, curves.png, pictures.png, and a
    run folder for each network. After an interruption, give the same command again: finished runs are not repeated, and
    the interrupted one goes on. Nothing is published. The exit code is 1 if a network could not be trained.
    """
    from service.training.config import configure

    shown = subject(data, modality, table or [])
    changes = options.given(
        locals(),
        input=None if grid is None else parse_input(grid),
        network=None,  # these two are the experiment's: it trains many networks on many splits
        folds=None,
    )
    recipe, networks = configure(data, shown, preset, changes), choose(shown, table or [], network or [])
    with large_imports():  # only now: a wrong option is refused without loading torch
        from service.reproduction.experiment import Experiment
        from service.store.durable import naming

    name = shown if folds is None else f"{shown}-{folds}-fold"
    experiment = Experiment(networks=tuple(networks), recipe=recipe, folds=folds, folder=out / name)
    with interruptible(RUN_GOES_ON), naming(experiment.folder):
        failed = run(experiment, command_line(context))
    if failed:
        raise typer.Exit(1)


def run(experiment: "Experiment", command: str) -> bool:
    """Run the experiment and print a line for each network; return whether one of them could not be trained."""
    from service.reproduction.accuracy_folder import draw_pictures, write
    from service.reproduction.accuracy_report import AccuracyReport
    from service.reproduction.accuracy_table import heading, network_row, paper_row
    from service.reproduction.experiment import run_experiment

    report = AccuracyReport(command=command, recipe=experiment.recipe, folds=experiment.folds)
    for score in run_experiment(experiment, lambda line: typer.echo(line, err=True)):
        if not report.networks:
            typer.echo(heading())
        report = report.model_copy(update={"networks": (*report.networks, score)})
        write(report, experiment)
        typer.echo(network_row(score, paper_row(score.network, experiment.recipe.modality)))
    if report.networks:
        draw_pictures(report, experiment)
        typer.echo(f"tables, learning curves and pictures: {experiment.folder}", err=True)
    return len(report.scored) < len(report.networks)


def subject(data: str, modality: str | None, tables: list[int]) -> str:
    """Return the modality: the one that is given, or else that of the drawn data, or else that of the tables.

    Raises:
        BadParameter: the paper has no such accuracy table, the tables or drawn data are of another modality, or nothing
            names a modality.
    """
    from service.reproduction.paper import ACCURACY_TABLES, INPUT_SIZES

    check_drawn(data, modality)
    known = {table.number: table.modality for table in ACCURACY_TABLES}
    if unknown := [number for number in tables if number not in known]:
        hint = "; speed, its Table 5, is what `alnet benchmark networks` measures" if unknown[0] == 5 else ""
        raise BadParameter(f"--table {unknown[0]}: there are {', '.join(map(str, known))}{hint}")
    found = modality or options.drawn_modality(data) or next((known[number] for number in tables), None)
    if found is None:
        raise BadParameter(f"--modality is missing: {', '.join(INPUT_SIZES)}")
    if found not in INPUT_SIZES:
        raise BadParameter(f"{data!r}: there are {', '.join(f'drawn:{name}' for name in INPUT_SIZES)}")
    if others := [number for number in tables if known[number] != found]:
        raise BadParameter(f"--table {others[0]} is of {known[others[0]]} data, not {found}; pick --network instead")
    return found


def choose(modality: str, tables: list[int], keys: list[str]) -> "list[Compared]":
    """Return the networks with these keys, in the paper's order; without keys, those of the tables.

    Raises:
        BadParameter: the paper does not compare such a network, or not in these tables.
    """
    from service.reproduction.paper import ACCURACY_TABLES, PAPER_NETWORKS

    asked = [table for table in ACCURACY_TABLES if table.modality == modality and table.number in (tables or range(9))]
    rows = {key for table in asked for key in table.rows}
    in_tables = [compared for compared in PAPER_NETWORKS if compared.key in rows]
    return pick(keys, in_tables if tables else PAPER_NETWORKS) if keys else in_tables


def command_line(context: typer.Context) -> str:
    """Return the command as it was given, option by option, for the table's heading."""
    words = ["alnet", "reproduce"]
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            words += _words(option.opts[0], option.secondary_opts, context.params[name])
    return shlex.join(words)


def _words(option: str, negated: Sequence[str], value: object) -> list[str]:
    """Return the words that give an option this value; a switch is given by its own name or the `negated` one."""
    if isinstance(value, bool):
        return [option if value else negated[0]]
    return [word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))]

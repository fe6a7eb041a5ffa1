"""`alnet models`: what the model store holds, whether it is sound, and which versions servers are to serve."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from service.commands.large_imports import large_imports
from service.commands.options import Store
from service.errors import AlnetError, UnknownModality, reason

if TYPE_CHECKING:
    from service.store.model_store import ModelStore, Wanted

T = TypeVar("T")

app = typer.Typer(help="List, show, verify, import and pin the checkpoints of a model store.", no_args_is_help=True)

COLUMNS = ("MODALITY", "VERSION", "SERVED", "LABEL", "ARCHITECTURE", "PARAMETERS", "TEST IOU", "SIZE")


@app.command("list")
def list_checkpoints(store: Store) -> None:
    """List every published checkpoint; the newest version of a modality is served unless another one is pinned.

    A broken card, pin or folder has a line at the end and makes the exit code 1. Weights are not read: `alnet models
    verify` checks them.
    """
    from service.store.model_store import ModelStore

    faults: list[str] = []
    rows = list(_rows(ModelStore(store), faults))
    for line in _aligned([COLUMNS, *rows]) if rows else []:
        typer.echo(line)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    if not rows:
        typer.echo(f"no checkpoints in {store.absolute()}; --store or ALNET_STORE names another store")


@app.command("show")
def show_checkpoint(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    *,
    version: Annotated[str | None, typer.Option(help="A published version; by default the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
    store: Store,
) -> None:
    """Show what a checkpoint is, how good it is, and how it was trained."""
    from service.store.model_store import ModelStore
    from service.store.readme import card_readme

    card = ModelStore(store).open(modality, version).card
    typer.echo(card.model_dump_json(indent=2) + "\n" if as_json else card_readme(card), nl=False)


@app.command("verify")
def verify_checkpoints(
    modality: Annotated[str | None, typer.Argument(help="Modality to check; by default all.")] = None,
    *,
    store: Store,
) -> None:
    """Check every published checkpoint: card, digest, weights, and the network's answer to its probe, on the CPU."""
    from service.store.model_store import ModelStore

    models = ModelStore(store)
    unreadable: list[str] = []
    published = list(_published(models, unreadable, modality))
    if not published and not unreadable:
        raise UnknownModality(f"nothing to verify: no checkpoint of {modality or 'any modality'}", store=store)
    faults = [_verify(models, name, version) for name, version, _wanted in published]
    for fault in unreadable:
        typer.echo(fault)
    if unreadable or any(faults):
        raise typer.Exit(1)


@app.command("import")
def import_checkpoint(
    folder: Annotated[Path, typer.Argument(help="Folder of a version in another store, or a copy of one.")],
    store: Store,
) -> None:
    """Publish a copy of a checkpoint as the next free version: whole, checked by its digests, or not at all."""
    from service.store.checkpoint import Checkpoint
    from service.store.publish import publish_next

    checkpoint = Checkpoint.read_anywhere(folder)
    card = checkpoint.card
    published = publish_next(store, card, checkpoint.contents())
    typer.echo(f"{card.modality}: version {published.name}, a copy of version {card.version} in {folder}")


@app.command("pin")
def pin_version(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    version: Annotated[str, typer.Argument(help="A published version.")],
    store: Store,
) -> None:
    """Have this version served until it is unpinned, whatever is published; running servers swap to it."""
    from service.store.model_store import ModelStore

    _pin(ModelStore(store), modality, version)


@app.command("unpin")
def unpin_version(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    store: Store,
) -> None:
    """Have the newest version served again."""
    from service.store.model_store import ModelStore
    from service.store.pin import remove_pin

    newest = ModelStore(store).published(modality)[-1]
    was_pinned = remove_pin(store, modality)
    typer.echo(f"{modality}: {'no longer' if was_pinned else 'was not'} pinned; version {newest} is to be served")


@app.command("rollback")
def roll_back(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    store: Store,
) -> None:
    """Pin the version before the one that is to be served now (the pinned one, or else the newest)."""
    from service.store.model_store import ModelStore

    models = ModelStore(store)
    _pin(models, modality, models.before(modality, models.wanted(modality).version))


def _pin(models: "ModelStore", modality: str, version: str) -> None:
    """Pin a version, which must be published and have whole files."""
    from service.store.pin import write_pin

    models.open(modality, version).contents()
    write_pin(models.folder, modality, version)
    typer.echo(f"{modality}: pinned to version {version}")


def _verify(models: "ModelStore", modality: str, version: str) -> bool:
    """Print one line on the checkpoint; return whether it is faulty."""
    with large_imports():
        from service.engine.choosing import EXACT, load_engine

    try:
        load_engine(models.open(modality, version), EXACT)
    except Exception as error:  # noqa: BLE001 - one checkpoint's fault must not keep others from being verified
        typer.echo(_fault(f"{modality} {version}", error))
        return True
    typer.echo(f"{modality} {version}: sound")
    return False


def _published(
    models: "ModelStore", faults: list[str], modality: str | None = None
) -> Iterator[tuple[str, str, "Wanted | None"]]:
    """Yield the modality and version of every published checkpoint, or of one modality's, and which is to be served.

    What cannot be read of a modality has a line in `faults` instead.
    """
    for name in models.modalities() if modality is None else [modality]:
        versions = _unless_faulty(name, partial(models.versions, name), faults)
        wanted = _unless_faulty(name, partial(models.wanted, name), faults) if versions else None
        for version in versions or []:
            yield name, str(version), wanted


def _rows(models: "ModelStore", faults: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the row of every checkpoint; what is broken has a line in `faults` instead."""
    for modality, version, wanted in _published(models, faults):
        row = _unless_faulty(f"{modality} {version}", partial(_row, models, modality, version, wanted), faults)
        if row is not None:
            yield row


def _unless_faulty(what: str, ask: Callable[[], T], faults: list[str]) -> T | None:
    """Return what `ask` returns; if it fails, return None and add a line to `faults` on `what` failed and why."""
    try:
        return ask()
    except (AlnetError, OSError) as error:
        faults.append(_fault(what, error))
        return None


def _fault(what: str, error: Exception) -> str:
    return f"{what}: FAILED: {reason(error)}"


def _row(models: "ModelStore", modality: str, version: str, wanted: "Wanted | None") -> tuple[str, ...]:
    checkpoint = models.open(modality, version)
    card, test = checkpoint.card, checkpoint.card.test
    served = "no" if wanted is None or card.version != wanted.version else "pinned" if wanted.is_pinned else "yes"
    size_bytes = sum(file.stat().st_size for file in checkpoint.folder.iterdir() if file.is_file())
    return (
        card.modality,
        card.version,
        served,
        card.label,
        card.architecture,
        f"{card.parameters:,}",
        f"{test.iou_mean:.3f} (n={test.n})" if test else "none",
        f"{size_bytes / 2**20:.1f} MiB",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

"""`alnet models`: what the model store holds, whether it is sound, and which version of it servers are to serve."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import AlnetError, UnknownModality

if TYPE_CHECKING:
    from service.store.checkpoint import Checkpoint
    from service.store.model_store import ModelStore

app = typer.Typer(help="List, show, verify and pin the checkpoints of a model store.", no_args_is_help=True)

StoreFolder = Annotated[Path, typer.Option("--store", envvar="ALNET_STORE", help="Folder of checkpoints.")]
DEFAULT_STORE = Path("model_store")
COLUMNS = ("MODALITY", "VERSION", "SERVED", "LABEL", "ARCHITECTURE", "PARAMETERS", "TEST IOU", "SIZE")


@app.command("list")
def list_checkpoints(store: StoreFolder = DEFAULT_STORE) -> None:
    """List every published checkpoint; the newest version of a modality is served unless another one is pinned."""
    from service.store.model_store import ModelStore

    models = ModelStore(store)
    rows = [_row(models, models.open(modality, version)) for modality, version in _published(models)]
    if not rows:
        typer.echo(f"no checkpoints in {store}")
        return
    for line in _aligned([COLUMNS, *rows]):
        typer.echo(line)


@app.command("show")
def show_checkpoint(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    *,
    version: Annotated[str | None, typer.Option(help="A published version; the newest if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
    store: StoreFolder = DEFAULT_STORE,
) -> None:
    """Show what a checkpoint is, how good, and how it was trained."""
    from service.store.model_store import ModelStore
    from service.store.readme import card_readme

    card = ModelStore(store).open(modality, version).card
    typer.echo(card.model_dump_json(indent=2) + "\n" if as_json else card_readme(card), nl=False)


@app.command("verify")
def verify_checkpoints(
    modality: Annotated[str | None, typer.Argument(help="All if left out.")] = None,
    store: StoreFolder = DEFAULT_STORE,
) -> None:
    """Check every published checkpoint: card, digest, weights, and the network's answer to its probe, on the CPU."""
    from service.store.model_store import ModelStore

    models = ModelStore(store)
    published = list(_published(models, modality))
    if not published:
        raise UnknownModality(f"nothing to verify: {store} holds no checkpoint of {modality or 'any modality'}")
    faults = [_verify(models, name, version) for name, version in published]
    if any(faults):
        raise typer.Exit(1)


@app.command("pin")
def pin_version(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    version: Annotated[str, typer.Argument(help="A published version.")],
    store: StoreFolder = DEFAULT_STORE,
) -> None:
    """Have this version served, whatever is published, until it is unpinned; running servers swap to it."""
    from service.store.model_store import ModelStore

    _pin(ModelStore(store), modality, version)


@app.command("unpin")
def unpin_version(
    modality: Annotated[str, typer.Argument(help="retina, cell, skin, or your own.")],
    store: StoreFolder = DEFAULT_STORE,
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
    store: StoreFolder = DEFAULT_STORE,
) -> None:
    """Pin the version before the one that is to be served now: before the pinned one, or else before the newest."""
    from service.store.model_store import ModelStore

    models = ModelStore(store)
    _pin(models, modality, models.before(modality, models.wanted(modality).version))


def _pin(models: "ModelStore", modality: str, version: str) -> None:
    """Pin a version that is published and whose files are whole."""
    from service.store.pin import write_pin

    models.open(modality, version).contents()
    write_pin(models.folder, modality, version)
    typer.echo(f"{modality}: pinned to version {version}")


def _verify(models: "ModelStore", modality: str, version: str) -> bool:
    """Print one line on the checkpoint; return whether it is at fault."""
    from service.engine.choosing import EXACT, load_engine

    try:
        load_engine(models.open(modality, version), EXACT)
    except AlnetError as error:
        typer.echo(f"{modality} {version}: FAILED: {' '.join(str(error).split())}")
        return True
    typer.echo(f"{modality} {version}: sound")
    return False


def _published(models: "ModelStore", modality: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (modality, version) of every published checkpoint, or of those of one modality."""
    for name in models.modalities() if modality is None else [modality]:
        for version in models.versions(name):
            yield name, str(version)


def _row(models: "ModelStore", checkpoint: "Checkpoint") -> tuple[str, ...]:
    card, test = checkpoint.card, checkpoint.card.test
    pinned = models.pinned(card.modality)
    newest = models.published(card.modality)[-1]
    served = "pinned" if card.version == pinned else "yes" if pinned is None and card.version == newest else "no"
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
    """Yield the rows as lines whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

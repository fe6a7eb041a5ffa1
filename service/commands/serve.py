"""`alnet serve`: the HTTP service."""

import signal
import sys
from typing import Annotated

import typer

from service.commands.large_imports import large_imports
from service.settings import PREFIX, Settings


def _describe(name: str) -> str:
    field = Settings.model_fields[name]
    return f"{PREFIX}{name.upper()} ({field.default}): {field.description}"


EPILOG = "Every setting is an environment variable (default in brackets):\n\n" + "\n\n".join(
    _describe(name) for name in Settings.model_fields
)


def serve(
    *,
    store: Annotated[
        str | None,  # a Path would take an empty one for the current folder
        typer.Option(metavar="PATH", help="Folder of checkpoints; by default ALNET_STORE."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default ALNET_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for a free one; by default ALNET_PORT.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the networks run: auto, cpu or cuda; by default ALNET_DEVICE.")
    ] = None,
) -> None:
    """Serve the store's checkpoints over HTTP, until SIGTERM drains the server."""
    settings = Settings.read(store=store, host=host, port=port, device=device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server takes over, since importing takes seconds

    with large_imports():
        from service.api.server import serve as run

    raise typer.Exit(run(settings))

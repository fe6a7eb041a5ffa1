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
        str | None,  # a Path would make the current folder of an empty one
        typer.Option(metavar="PATH", help="Folder of checkpoints; ALNET_STORE otherwise."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; ALNET_HOST otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for a free one; ALNET_PORT otherwise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; ALNET_DEVICE otherwise.")] = None,
) -> None:
    """Serve the store's checkpoints over HTTP until SIGTERM, which drains."""
    settings = Settings.read(store=store, host=host, port=port, device=device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server takes over: importing takes seconds

    with large_imports():
        from service.api.server import serve as run

    raise typer.Exit(run(settings))

"""Options that several commands have, and that the server's settings answer where they are left out."""

from pathlib import Path
from typing import Annotated

import typer

from service.settings import PREFIX, Settings


def store_folder(given: str | Path | None = None) -> Path:
    """Return the folder of checkpoints that was given, or else the server's.

    Raises:
        BadSettings: it is empty, or the environment holds settings with which no server would start.
    """
    return Settings.read(store=given).store


def store_option(help_: str, panel: str | None = None) -> object:
    """Return what makes of a command's parameter the option `--store`: a Path, by `store_folder`."""
    return typer.Option(
        "--store",
        parser=store_folder,  # a Path of typer's would make the current folder of an empty one
        default_factory=store_folder,
        show_default=f"{PREFIX}STORE, or {Settings.model_fields['store'].default}",
        metavar="PATH",
        help=help_,
        rich_help_panel=panel,
    )


Store = Annotated[Path, store_option("Folder of checkpoints.")]

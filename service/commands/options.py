"""Options that several commands have, and that the server's settings answer where they are left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from service.errors import BadParameter
from service.settings import PREFIX, Settings


def path_of(option: str, what: str, *, needed: bool = False) -> Callable[[str | Path], Path]:
    """Return what makes a Path of an option's text. An empty one, which Path would make the current folder, is refused.

    The error is a BadParameter that asks for `what` it should be, as "a folder", or to leave out what is not `needed`.
    """

    def parse(given: str | Path) -> Path:
        if not str(given):
            raise BadParameter(f"{option} is empty; name {what}{'' if needed else ', or leave it out'}")
        return Path(given)

    return parse


def out_option(help_: str, *, needed: bool = False) -> object:
    """Return what makes of a command's parameter the option `--out`: the Path of a folder, there or not.

    An empty one and a file are refused by a BadParameter.
    """
    path = path_of("--out", "a folder", needed=needed)

    def parse(given: str | Path) -> Path:
        if (folder := path(given)).exists() and not folder.is_dir():
            raise BadParameter(f"--out {folder} is a file; name a folder, which need not be there")
        return folder

    return typer.Option("--out", parser=parse, metavar="FOLDER", help=help_)


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

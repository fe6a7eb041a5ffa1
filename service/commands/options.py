"""Options shared by several commands; where they are left out, the server's settings apply."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from service.errors import BadParameter
from service.settings import PREFIX, Settings


def path_of(option: str, what: str, *, needed: bool = False) -> Callable[[str | Path], Path]:
    """Return a parser that makes a Path of an option's text and refuses an empty one (to Path, the current folder).

    The BadParameter asks for `what` the option names, such as "a folder", or, if it is not `needed`, to leave it out.
    """

    def parse(given: str | Path) -> Path:
        if not str(given):
            raise BadParameter(f"{option} is empty; name {what}{'' if needed else ', or leave it out'}")
        return Path(given)

    return parse


def out_option(help_: str, *, needed: bool = False) -> object:
    """Return the option `--out` for a command's parameter: the Path of a folder, which need not exist.

    An empty path or that of a file is refused by a BadParameter.
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
        BadSettings: the path is empty, or the environment holds settings with which no server would start.
    """
    return Settings.read(store=given).store


def store_option(help_: str, panel: str | None = None) -> object:
    """Return the option `--store` for a command's parameter: a Path from `store_folder`."""
    return typer.Option(
        "--store",
        parser=store_folder,  # typer's own Path would take an empty one for the current folder
        default_factory=store_folder,
        show_default=f"{PREFIX}STORE, or {Settings.model_fields['store'].default}",
        metavar="PATH",
        help=help_,
        rich_help_panel=panel,
    )


Store = Annotated[Path, store_option("Folder of checkpoints.")]

"""`alnet keys`: who may use a server that asks for API keys."""

from pathlib import Path
from typing import Annotated

import typer

from service.errors import BadParameter
from service.settings import Settings

app = typer.Typer(help="Make, list and revoke the API keys of a server.", no_args_is_help=True)


def key_file(given: str | Path | None = None) -> Path:
    """Return the file of keys that was given, or else the server's.

    Raises:
        BadParameter: neither the option nor a setting names one.
        BadSettings: the path is empty, or the environment holds settings with which no server would start.
    """
    if not (name := Settings.read(api_keys=given and str(given)).api_keys):
        raise BadParameter("--file is missing: the file of keys, as the server is told it by ALNET_API_KEYS")
    return Path(name)


KeyFile = Annotated[
    Path,
    typer.Option(
        "--file",
        parser=key_file,
        default_factory=key_file,
        show_default="ALNET_API_KEYS",
        metavar="PATH",
        help="File of keys, as named to the server.",
    ),
]
Name = Annotated[str, typer.Argument(help="Whom the key is for: letters, digits, dots, underscores, hyphens.")]


@app.command("new")
def new_key(name: Name, *, file: KeyFile) -> None:
    """Make a key, print it this once, and write its hash to the file; a running server accepts it within a second."""
    from service.api.key_file import add_key, remove_key

    key = add_key(file, name)
    try:
        typer.echo(key)
    except OSError as error:
        remove_key(file, name)  # nobody has seen the key, and its name would be taken
        raise OSError(error.errno, f"{error.strerror}; no key was made", "stdout") from error
    typer.echo(f"this key of {name} cannot be shown again: {file} holds only its hash", err=True)


@app.command("list")
def list_keys(*, file: KeyFile) -> None:
    """List the names of the keys, each with the day on which it was made."""
    from service.api.key_file import read_keys

    keys = read_keys(file)
    if not keys:
        typer.echo(f"no keys in {file}")
        return
    width = max(len("NAME"), *(len(key.name) for key in keys))
    for name, created in [("NAME", "CREATED"), *((key.name, key.created.isoformat()) for key in keys)]:
        typer.echo(f"{name:{width}}  {created}")


@app.command("revoke")
def revoke_key(name: Name, *, file: KeyFile) -> None:
    """Remove a key from the file; a running server refuses it within a second."""
    from service.api.key_file import remove_key

    remove_key(file, name)
    typer.echo(f"revoked {name}")

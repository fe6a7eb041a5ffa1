"""What --help shows of a command: its docstring, in lines as long as the terminal is wide."""

import inspect

import typer


def reflow(app: typer.Typer) -> None:
    """Join the lines of each paragraph of all commands' docstrings, which typer breaks where the source does."""
    for command in app.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            reflow(group.typer_instance)

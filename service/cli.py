"""alnet: the command line. Every command imports what it needs when it runs, so that --help is quick."""

import getpass
import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from service.commands.interruption import INTERRUPTED

try:
    import typer

    from service.commands import (
        benchmark,
        evaluate,
        keys,
        models,
        pretrain,
        quantize,
        reproduce,
        robustness,
        segment,
        serve,
        train,
    )
    from service.commands.help_texts import reflow
    from service.engine.memory import is_out_of_memory
    from service.errors import AlnetError, BadConfig, BadParameter, BadSettings, UnknownModality, printable, reason
except KeyboardInterrupt:  # in the moment before there is a command
    print("alnet: interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)

EXTRAS = (
    "serving needs the extra alnet-service[serve], training and evaluating [train], `quantize` [train,cpu,quantize], "
    "`benchmark networks` [train], `benchmark serve` [serve,train,benchmark]"
)
USAGE_ERRORS = (BadConfig, BadParameter, BadSettings)

app = typer.Typer(
    name="alnet",
    help="Segment medical images with AL-Net: train a checkpoint, look at it, serve it.",
    epilog="Research use only. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve", epilog=serve.EPILOG)(serve.serve)
app.command("train")(train.train)
app.command("pretrain")(pretrain.pretrain)
app.command("evaluate")(evaluate.evaluate)
app.command("robustness")(robustness.robustness)
app.command("quantize")(quantize.quantize)
app.command("segment")(segment.segment)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(benchmark.app, name="benchmark")
reflow(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, on `arguments` or else the process's own, and exit.

    An error of ours is one line on stderr and exit code 1, or 2 if the call itself is wrong. A lack of memory is one
    line and 1, too; Ctrl-C is one line and 130, unless the command says something better about it.
    """
    _open_what_is_closed()
    _name_who_has_a_number()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if it cannot write to the home folder
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # help has more than ASCII, which not all terminals show
    try:
        app(arguments)
    except (AlnetError, OSError) as error:
        _let_the_leader_speak()
        print(f"alnet: {printable(' '.join(_with_store(error).split()))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, USAGE_ERRORS) else 1)
    except ModuleNotFoundError as error:  # the serving image cannot train, and the training image cannot serve
        library = (error.name or str(error)).split(".")[0]
        print(f"alnet: {library} is not installed; {EXTRAS}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if (told := _told_of(error)) is None:
            raise
        print(f"alnet: {told}", file=sys.stderr)
        sys.exit(1)
    except BaseException as error:
        if not _is_of_an_interrupt(error):
            raise
        print("alnet: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _with_store(error: AlnetError | OSError) -> str:
    """Return what an error says, and which store lacks a modality: its default depends on the current folder."""
    if not isinstance(error, UnknownModality) or error.store is None:
        return str(error)
    return f"{error}. The store is {error.store.absolute()}; --store or ALNET_STORE names another one"


def _told_of(error: MemoryError | RuntimeError) -> str | None:
    """Return what to say if memory or another process of the job is gone; None for other errors, which are faults."""
    if is_out_of_memory(error):
        return f"{reason(error)}; close what else uses that memory, or use another device"
    from service.training.torchrun import has_lost_another  # a server must not load training's code, but has failed now

    return "another process of this job has ended; look for what it said" if has_lost_another(error) else None


def _let_the_leader_speak() -> None:
    from service.training.torchrun import let_the_leader_speak

    let_the_leader_speak()


def _open_what_is_closed() -> None:
    """Discard output to stdout or stderr if it is closed (`2>&-`), in which case Python has None in its place.

    Otherwise the next file to be opened would get its number, and output of a library in C would end up in that file.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end


def _name_who_has_a_number() -> None:
    """Give a user without an entry in /etc/passwd (`docker run --user 1000`) a name: libraries ask for one and fail."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C led to the error: libraries that are being imported turn it into other errors."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error is not None


if __name__ == "__main__":
    main()

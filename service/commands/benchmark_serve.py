"""`alnet benchmark serve`: how fast the server answers, and how fast this machine could."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from service.commands.interruption import interruptible
from service.commands.large_imports import large_imports
from service.commands.options import out_option
from service.errors import BadParameter
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from service.benchmark.load import Timing
    from service.benchmark.uploads import Body

CALLERS = (1, 8, 32)
SHARES = (0.3, 0.6, 0.9)
KEY_VARIABLE = "BENCHMARK_API_KEY"
"""Does not begin with ALNET_: servers refuse such variables if they do not know them."""


def serve(
    *,
    out: Annotated[Path, out_option("Folder for serve.md, serve.json, serve.png and the server's log.")] = Path(
        "benchmark"
    ),
    modality: Annotated[
        list[str] | None, typer.Option(help="Modality of the images to send; may be repeated.", show_default="cell")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images of one modality, to send as they are; by default, images are drawn.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    uploads: Annotated[int, typer.Option(min=1, help="Number of different images to draw.")] = 8,
    callers: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Closed loop: number of callers at a time; may be repeated.", show_default="1 8 32"),
    ] = None,
    open_: Annotated[
        list[float] | None,
        typer.Option(
            "--open",
            min=0.01,
            max=10,
            help="Open loop: Poisson arrivals at this multiple of the closed loops' best rate; may be repeated.",
            show_default="0.3 0.6 0.9",
        ),
    ] = None,
    warm_up_s: Annotated[
        float | None, typer.Option(min=0, help="Time before the first window, in s.", show_default="3")
    ] = None,
    window_s: Annotated[float | None, typer.Option(min=0.1, help="Length of a window, in s.", show_default="5")] = None,
    windows: Annotated[
        int | None, typer.Option(min=3, help="Most windows to wait for three alike in a row.", show_default="12")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Measure roughly, in half a minute: short windows, 1 and 8 callers, --open 0.6."),
    ] = False,
    limit: Annotated[
        bool,
        typer.Option(
            help="Also measure this machine's limit, between loads, with ALNET_STORE and the server's other settings."
        ),
    ] = True,
    url: Annotated[
        str | None, typer.Option(help="Root of a running server, such as http://host:8000; by default, one is started.")
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(min=1, help="With --url: process ID of the server, to measure its CPU time and memory."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            help="API key to send with each upload, if the server asks for one. The variable is safer: other users of "
            "this machine see command lines.",
        ),
    ] = None,
) -> None:
    """Measure the server under load: throughput, latency, refusals, CPU time and memory, beside the machine's limit.

    A server is started with the ALNET_ variables of this environment. The load comes from a process of its own: first
    closed loops, then open ones. The files are rewritten after each load, so an interruption loses only one load.
    """
    if pid is not None and url is None:
        raise BadParameter("--pid is for a server that runs already; give its --url, too")
    if url is not None:
        _check_url(url)
    chosen = _uploads(modality or ["cell"], images, uploads)
    settings = Settings.read()
    _check_key(api_key, is_needed=url is None and bool(settings.api_keys))

    with large_imports():
        from service.benchmark.processes import end_in_order_at_sigterm
        from service.benchmark.serve import Plan, benchmark
        from service.benchmark.serve_folder import write
        from service.benchmark.serve_table import serve_table

    plan = Plan(
        uploads=chosen,
        callers=list(dict.fromkeys(callers or (CALLERS[:2] if quick else CALLERS))),
        shares=list(dict.fromkeys(open_ or (SHARES[1:2] if quick else SHARES))),
        timing=_timing(quick=quick, warm_up_s=warm_up_s, window_s=window_s, windows=windows),
        settings=settings,
        with_limit=limit,
        url=url,
        pid=pid,
        api_key=api_key,
    )
    out.mkdir(parents=True, exist_ok=True)
    end_in_order_at_sigterm()
    with interruptible(f"what was measured until then is in {out}"):
        for report in benchmark(plan, log=out / "serve.log"):
            write(report, out)
    typer.echo(serve_table(report))
    typer.echo(f"table, figures and plot: {out}")


def _uploads(modalities: "list[str]", images: Path | None, count: int) -> "dict[str, list[Body]]":
    """Return what is sent to each modality.

    Raises:
        BadParameter: the folder has no images or is given for several modalities, or a modality cannot be drawn.
    """
    from service.benchmark.uploads import draw_uploads, read_uploads

    if images is None:
        return {name: draw_uploads(name, count) for name in modalities}
    if len(modalities) > 1:
        raise BadParameter("--images are of one modality; measure each with a call of its own")
    return {modalities[0]: read_uploads(images)}


def _check_url(url: str) -> None:
    """Check that uploads can be sent to the URL, and that it has no user or password, which the report would reveal.

    Raises:
        BadParameter: it is not the root of a server, or has a user or password.
    """
    try:
        parts = urlsplit(url)
        is_root = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a valid port or IPv6 address
        is_root = False
    if "@" in url:
        raise BadParameter("--url has a user or password in it, which the report would tell; give it without")
    if not is_root:
        raise BadParameter(f"--url {url!r}: write it with scheme and host, as http://host:8000")


def _check_key(key: str | None, *, is_needed: bool) -> None:
    """Check that a header can hold the key, and that there is a key if the server to be started asks for one.

    Raises:
        BadParameter: the key does not fit, or is missing. No message contains it.
    """
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise BadParameter("--api-key is no API key: those of `alnet keys new` have letters, digits, - and _ only")
    if key is None and is_needed:
        raise BadParameter(
            f"{PREFIX}API_KEYS lets the server ask for keys: give one of them with --api-key or {KEY_VARIABLE}"
        )


def _timing(*, quick: bool, warm_up_s: float | None, window_s: float | None, windows: int | None) -> "Timing":
    """Return the default timing, or the quick one, with the given values in place of its own."""
    from service.benchmark.load import Timing

    usual = Timing(warm_up_s=1.0, window_s=1.0, windows=6, arrivals=10) if quick else Timing()
    return replace(
        usual,
        warm_up_s=usual.warm_up_s if warm_up_s is None else warm_up_s,
        window_s=window_s or usual.window_s,
        windows=windows or usual.windows,
    )

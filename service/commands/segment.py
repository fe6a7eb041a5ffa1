"""`alnet segment`: files or folders in, masks out, by the very code that serves uploads."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.interruption import ended_by_sigterm_alike, interruptible
from service.commands.large_imports import large_imports
from service.commands.options import out_option
from service.commands.segment_files import find_images, name_outputs, passed_over, read_image, write_masks
from service.commands.segment_table import Row, check_table, check_writable, left_out, row_of, written
from service.errors import AlnetError, FrameNeeded, printable
from service.settings import Settings

if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.engine.image_work import Upload
    from service.engine.segmenter import Segmentation, Segmenter


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    *,
    modality: Annotated[str, typer.Option(help="What the images show: retina, cell, skin, or your own.")],
    out: Annotated[Path, out_option("Folder for the masks, NAME.png each.", needed=True)],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Probability from which a pixel is foreground; the checkpoint's if left out."),
    ] = None,
    all_components: Annotated[
        bool, typer.Option("--all-components", help="Leave out no small component, even if the checkpoint does.")
    ] = False,
    probability: Annotated[
        bool, typer.Option(help="Also write NAME.probability.png: 255 × the probability of foreground.")
    ] = False,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Which page of the images, counted from 0; one that lacks it fails.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write a CSV file: each image's size, area, expected IoU and warnings."),
    ] = None,
    store: Annotated[
        str | None,  # a Path would make the current folder of an empty one
        typer.Option(metavar="PATH", help="Folder of checkpoints; ALNET_STORE otherwise."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; ALNET_DEVICE otherwise.")] = None,
) -> None:
    """Segment images; each mask is an 8-bit PNG, 0 and 255, on its image's own grid.

    A file that cannot be used is named on stderr, the others go on, and the exit code is 1. Warnings, as of an image
    unlike the training images, are told there, too, and fail nothing. Folders are searched one level deep for .png
    .jpg .tif .bmp .ppm .pgm files and the like; what else looks like pictures is told.
    """
    from service.engine.image_work import Upload

    files = find_images(inputs)
    outputs = name_outputs(files, out, probability=probability)
    if table is not None:
        check_table(table, files, outputs)
    settings = Settings.read(store=store, device=device)
    engine = _load(settings, modality)
    for line in passed_over(inputs, out):
        typer.echo(f"alnet: {printable(line)}", err=True)
    out.mkdir(parents=True, exist_ok=True)
    if table is not None:
        check_writable(table)
    asked = Upload(image=b"", threshold=threshold, frame=frame, probability=probability, all_components=all_components)
    rows: dict[Path, Row] = {}
    left = f"the masks until then are in {out}{'' if table is None else f', and what they are like in {table}'}"
    with interruptible(left), written(table, files, rows), ended_by_sigterm_alike():
        asyncio.run(_segment_all(outputs, engine, settings, asked, rows))
    typer.echo(f"{len(rows)} of {len(files)} masks in {out}{left_out(rows.values())}")
    if len(rows) < len(files):
        raise typer.Exit(1)


def _load(settings: Settings, modality: str) -> "Engine":
    with large_imports():
        from service.engine.choosing import Wish, load_engine
        from service.store.model_store import ModelStore

    return load_engine(ModelStore(settings.store).current(modality), Wish.of(settings))


async def _segment_all(
    outputs: dict[Path, list[Path]],
    engine: "Engine",
    settings: Settings,
    asked: "Upload",
    rows: dict[Path, Row],
) -> None:
    """Segment all files, each `asked` for so, a few at a time so that batches fill.

    The table's row of each that did not fail is put into `rows` once its mask is written.
    """
    from tqdm import tqdm

    places = asyncio.Semaphore(settings.max_batch_size)
    bar = tqdm(total=len(outputs), desc="segmenting", unit="image", leave=False, disable=None)

    def tell(file: Path, what: str) -> None:
        with tqdm.external_write_mode():
            typer.echo(f"alnet: {printable(f'{file}: {what}')}", err=True)

    def keep(file: Path, paths: Sequence[Path], answer: "Segmentation") -> None:
        write_masks(paths, answer)
        rows[file] = row_of(file, answer)  # in the same thread: Ctrl-C ends the wait for it, and not the writing

    async def one(file: Path, paths: list[Path]) -> None:
        async with places:
            try:
                answer = await _segment_one(segmenter, file, asked)
                await asyncio.to_thread(keep, file, paths, answer)
            except (AlnetError, OSError) as error:
                tell(file, _told(error))
            else:
                for caution in answer.cautions:
                    tell(file, f"warning: {caution.message}")
        bar.update()

    with bar:
        async with _segmenter(engine, settings) as segmenter, asyncio.TaskGroup() as group:
            for file, paths in outputs.items():
                group.create_task(one(file, paths))


def _told(error: Exception) -> str:
    """Return what is wrong in one line; a page is picked by an option here, by a parameter in a request."""
    line = " ".join(str(error).split())
    return line.replace("frame=", "--frame") if isinstance(error, FrameNeeded) else line


async def _segment_one(segmenter: "Segmenter", file: Path, asked: "Upload") -> "Segmentation":
    upload = replace(asked, image=await asyncio.to_thread(read_image, file))
    return await segmenter.segment(upload, arrived=asyncio.get_running_loop().time())


@asynccontextmanager
async def _segmenter(engine: "Engine", settings: Settings) -> "AsyncIterator[Segmenter]":
    """Join the service's own parts around one engine. Nobody is refused: images wait for their places instead."""
    from service.engine.device import Device
    from service.engine.pixel_pool import PixelPool
    from service.engine.version_maker import join

    threads = settings.decode_threads or os.cpu_count() or 1
    with PixelPool(threads, long=threads) as pool:  # nobody waits for a small image here
        async with Device("network") as device:
            version = join(engine, settings, device=device, pool=pool, max_queued=sys.maxsize)
            async with version.batcher:
                yield version.segmenter

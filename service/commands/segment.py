"""`alnet segment`: files or folders in, masks out, by the same code that serves uploads."""

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
        typer.Option(min=0, max=1, help="Probability from which a pixel is foreground; by default the checkpoint's."),
    ] = None,
    all_components: Annotated[
        bool, typer.Option("--all-components", help="Keep small components, even if the checkpoint leaves them out.")
    ] = False,
    probability: Annotated[
        bool, typer.Option(help="Also write NAME.probability.png, 255 × the probability of foreground.")
    ] = False,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Page of each image, counted from 0; images that lack it fail.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Also write this CSV file: size, area, expected IoU and warnings of each image."
        ),
    ] = None,
    store: Annotated[
        str | None,  # a Path would take an empty one for the current folder
        typer.Option(metavar="PATH", help="Folder of checkpoints; by default ALNET_STORE."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; by default ALNET_DEVICE.")] = None,
) -> None:
    """Segment images; each mask is an 8-bit PNG, 0 and 255, on its image's own grid.

    A file that cannot be used is named on stderr; the others go on, and the exit code is 1. Warnings, such as of an
    image unlike the training images, go to stderr too, and fail nothing. Folders are searched one level deep for .png
    .jpg .tif .bmp .ppm .pgm files and the like; other files that look like pictures are named.
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
    """Segment all files as `asked`, a few at a time so that batches fill.

    When a file's mask is written, its row of the table is put into `rows`.
    """
    from tqdm import tqdm

    places = asyncio.Semaphore(settings.max_batch_size)
    bar = tqdm(total=len(outputs), desc="segmenting", unit="image", leave=False, disable=None)

    def tell(file: Path, what: str) -> None:
        with tqdm.external_write_mode():
            typer.echo(f"alnet: {printable(f'{file}: {what}')}", err=True)

    def keep(file: Path, paths: Sequence[Path], answer: "Segmentation") -> None:
        write_masks(paths, answer)
        rows[file] = row_of(file, answer)  # in the thread that writes: Ctrl-C ends the wait for it, but not the thread

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
    """Return the error in one line. An option picks the page here; in a request, a parameter does."""
    line = " ".join(str(error).split())
    return line.replace("frame=", "--frame") if isinstance(error, FrameNeeded) else line


async def _segment_one(segmenter: "Segmenter", file: Path, asked: "Upload") -> "Segmentation":
    upload = replace(asked, image=await asyncio.to_thread(read_image, file))
    return await segmenter.segment(upload, arrived=asyncio.get_running_loop().time())


@asynccontextmanager
async def _segmenter(engine: "Engine", settings: Settings) -> "AsyncIterator[Segmenter]":
    """Join the service's own parts around one engine. No image is refused: it waits for its place instead."""
    from service.engine.device import Device
    from service.engine.pixel_pool import PixelPool
    from service.engine.version_maker import join

    threads = settings.decode_threads or os.cpu_count() or 1
    with PixelPool(threads, long=threads) as pool:  # nothing here waits for small images
        async with Device("network") as device:
            version = join(engine, settings, device=device, pool=pool, max_queued=sys.maxsize)
            async with version.batcher:
                yield version.segmenter

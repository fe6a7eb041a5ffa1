"""`alnet segment`: files or folders in, masks out, by the very code that serves uploads."""

import asyncio
import csv
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from service.commands.interruption import interruptible
from service.commands.options import out_option
from service.errors import AlnetError, BadParameter, FrameNeeded, printable
from service.settings import Settings
from service.store.durable import replace as replace_file

if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.engine.image_work import Upload
    from service.engine.segmenter import Segmentation, Segmenter

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm"}


class Row(NamedTuple):
    """What the table says of one image, in the names of the service's JSON; `warnings` are codes, spaces between."""

    image: str
    width: int
    height: int
    threshold: float
    area_px: int
    area_fraction: float
    components_left_out: int
    left_out_px: int
    expected_iou: float
    warnings: str


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
    .jpg .tif .bmp .ppm .pgm files.
    """
    from service.engine.image_work import Upload

    files = find_images(inputs)
    outputs = name_outputs(files, out, probability=probability)
    if table is not None:
        _check_table(table, files, outputs)
    settings = Settings.read(store=store, device=device)
    engine = _load(settings, modality)
    if line := _passed_over(inputs, out):
        typer.echo(f"alnet: {printable(line)}", err=True)
    out.mkdir(parents=True, exist_ok=True)
    if table is not None:
        _check_writable(table)
    asked = Upload(image=b"", threshold=threshold, frame=frame, probability=probability, all_components=all_components)
    rows: dict[Path, Row] = {}
    left = f"the masks until then are in {out}{'' if table is None else f', and what they are like in {table}'}"
    with interruptible(left), _written(table, files, rows):
        asyncio.run(_segment_all(outputs, engine, settings, asked, rows))
    typer.echo(f"{len(rows)} of {len(files)} masks in {out}{_left_out(rows.values())}")
    if len(rows) < len(files):
        raise typer.Exit(1)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """Return the files among `inputs` and the images in its folders, sorted within each, each file once.

    Raises:
        BadParameter: a path does not exist, or nothing was found.
    """
    found: dict[Path, Path] = {}
    for path in inputs:
        if not path.exists():
            raise BadParameter(f"{path} does not exist")
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file == path or (file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()):
                found.setdefault(file.resolve(), file)
    if not found:
        deeper = _passed_over(inputs, None)
        raise BadParameter(f"no images in {', '.join(map(str, inputs))}{deeper and f'; {deeper}'}")
    return list(found.values())


def _passed_over(inputs: Sequence[Path], out: Path | None) -> str:
    """Return how many folders inside those of `inputs` are not read, nor the one for the masks; nothing if none."""
    known = {path.resolve() for path in (*inputs, *([] if out is None else [out]))}
    inside = [path for folder in inputs if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()]
    deeper = [path for path in inside if not path.name.startswith(".") and path.resolve() not in known]
    if not deeper:
        return ""
    example = f"{deeper[0]} and {len(deeper) - 1} more" if len(deeper) > 1 else str(deeper[0])
    return (
        f"folders inside folders ({len(deeper)}) are passed over; name them, too, to segment what is in them: {example}"
    )


def name_outputs(files: Sequence[Path], out: Path, *, probability: bool) -> dict[Path, list[Path]]:
    """Return what each file's mask in `out` will be called, and its probability map if there is to be one.

    Raises:
        BadParameter: two images would give files of one name, or an image itself would be written over.
    """
    endings = [".png", ".probability.png"] if probability else [".png"]
    outputs = {file: [out / f"{file.stem}{ending}" for ending in endings] for file in files}
    images, taken = {file.resolve() for file in files}, dict[Path, Path]()
    for file, paths in outputs.items():
        for path in paths:
            if (other := taken.setdefault(path, file)) is not file:
                raise BadParameter(f"{other} and {file} would both give {path.name}; segment them in two calls")
            if path.resolve() in images:
                raise BadParameter(f"{path} is one of the images and would be written over; pick another folder --out")
    return outputs


def _check_table(table: Path, files: Sequence[Path], outputs: Mapping[Path, Sequence[Path]]) -> None:
    """Raise BadParameter if the table would be written over an image, or a mask over the table."""
    taken = {path.resolve() for path in (*files, *(path for paths in outputs.values() for path in paths))}
    if table.resolve() in taken:
        raise BadParameter(f"--table {table} is one of the images or masks; give another file")


def _check_writable(path: Path) -> None:
    """Raise OSError before the work if no table can be written there; what stands there stays until it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()


@contextmanager
def _written(table: Path | None, files: Sequence[Path], rows: Mapping[Path, Row]) -> Iterator[None]:
    """Write the table, if there is to be one, of the `rows` that there are when the work ends, also by Ctrl-C.

    What stands there stays if there are none by then.
    """
    try:
        yield
    except KeyboardInterrupt:
        if table is not None and rows:
            _write_table(table, [rows[file] for file in files if file in rows])
        raise
    if table is not None:
        _write_table(table, [rows[file] for file in files if file in rows])


def _write_table(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # as names of files are
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def _load(settings: Settings, modality: str) -> "Engine":
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
        _write_masks(paths, answer)
        rows[file] = _row(file, answer)  # in the same thread: Ctrl-C ends the wait for it, and not the writing

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


def _row(file: Path, answer: "Segmentation") -> Row:
    return Row(
        image=str(file),
        width=answer.width,
        height=answer.height,
        threshold=answer.threshold,
        area_px=answer.area_px,
        area_fraction=round(answer.area_fraction, 6),
        components_left_out=answer.left_out.components,
        left_out_px=answer.left_out.pixels,
        expected_iou=round(answer.expected_iou, 4),
        warnings=" ".join(caution.code for caution in answer.cautions),
    )


def _left_out(rows: Iterable[Row]) -> str:
    """Return in how many masks small components are missing, for the end of a line; nothing if in none."""
    lacking = sum(row.components_left_out > 0 for row in rows)
    return f"; small components are left out of {lacking} (--all-components keeps them)" if lacking else ""


def _told(error: Exception) -> str:
    """Return what is wrong in one line; a page is picked by an option here, by a parameter in a request."""
    line = " ".join(str(error).split())
    return line.replace("frame=", "--frame") if isinstance(error, FrameNeeded) else line


async def _segment_one(segmenter: "Segmenter", file: Path, asked: "Upload") -> "Segmentation":
    upload = replace(asked, image=await asyncio.to_thread(file.read_bytes))
    return await segmenter.segment(upload, arrived=asyncio.get_running_loop().time())


def _write_masks(paths: Sequence[Path], answer: "Segmentation") -> None:
    pngs = [png for png in (answer.mask_png, answer.probability_png) if png is not None]
    for path, png in zip(paths, pngs, strict=True):
        _write_whole(path, png)


def _write_whole(path: Path, png: bytes) -> None:
    """Write a mask, of which a full disk leaves no half; what was there before stays if it cannot be written."""
    try:
        replace_file(path, png)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error


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

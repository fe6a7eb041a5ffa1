"""`alnet segment`: files or folders in, masks out, by the very code that serves uploads."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import AlnetError, BadParameter
from service.settings import Settings

if TYPE_CHECKING:
    from service.engine.segmenter import Segmentation, Segmenter, Upload

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm"}


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    *,
    modality: Annotated[str, typer.Option(help="What the images show: retina, cell, skin, or your own.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks, NAME.png each.")],
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="The checkpoint's if left out.")] = None,
    probability: Annotated[bool, typer.Option(help="Also write NAME.probability.png.")] = False,
    store: Annotated[Path | None, typer.Option(help="Folder of checkpoints; ALNET_STORE otherwise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; ALNET_DEVICE otherwise.")] = None,
) -> None:
    """Segment images; each mask is an 8-bit PNG, 0 and 255, on its image's own grid.

    A file that cannot be used is named on stderr, the others go on, and the exit code is 1. Folders are searched one
    level deep for .png .jpg .tif .bmp .ppm .pgm files.
    """
    files = find_images(inputs)
    settings = Settings.read(store=store, device=device, modalities=modality)
    out.mkdir(parents=True, exist_ok=True)
    failed = asyncio.run(_segment_all(files, settings, modality, out, threshold=threshold, probability=probability))
    typer.echo(f"{len(files) - failed} of {len(files)} masks in {out}")
    if failed:
        raise typer.Exit(1)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """Return the files among `inputs` and the images in its folders, sorted, with names that do not collide.

    Raises:
        BadParameter: a path does not exist, nothing was found, or two images would give masks of one name.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files += sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
        elif path.is_file():
            files.append(path)
        else:
            raise BadParameter(f"{path} does not exist")
    if not files:
        raise BadParameter(f"no images in {', '.join(map(str, inputs))}")
    stems: dict[str, Path] = {}
    for file in files:
        if (other := stems.setdefault(file.stem, file)) is not file:
            raise BadParameter(f"{other} and {file} would both give {file.stem}.png; segment them in two calls")
    return files


async def _segment_all(
    files: Sequence[Path],
    settings: Settings,
    modality: str,
    out: Path,
    *,
    threshold: float | None,
    probability: bool,
) -> int:
    """Segment all files, a few at a time so that batches fill; return how many failed."""
    from tqdm import tqdm

    from service.engine.fleet import Fleet
    from service.engine.segmenter import Upload

    failed = 0
    async with Fleet(settings) as fleet:
        await fleet.wait_loaded()
        segmenter = fleet.segmenter(modality)
        places = asyncio.Semaphore(settings.max_batch_size)

        async def one(file: Path) -> None:
            nonlocal failed
            async with places:
                try:
                    content = await asyncio.to_thread(file.read_bytes)
                    upload = Upload(image=content, threshold=threshold, probability=probability)
                    await _write(await _answer(segmenter, upload), out / file.stem)
                except (AlnetError, OSError) as error:
                    failed += 1
                    tqdm.write(f"alnet: {file}: {error}", file=bar.fp)
            bar.update()

        with tqdm(total=len(files), desc="segmenting", unit="image", leave=False) as bar:
            async with asyncio.TaskGroup() as group:
                for file in files:
                    group.create_task(one(file))
    return failed


async def _answer(segmenter: "Segmenter", upload: "Upload") -> "Segmentation":
    return await segmenter.segment(upload, arrived=asyncio.get_running_loop().time())


async def _write(segmentation: "Segmentation", stem: Path) -> None:
    await asyncio.to_thread(stem.with_name(f"{stem.name}.png").write_bytes, segmentation.mask_png)
    if segmentation.probability_png is not None:
        path = stem.with_name(f"{stem.name}.probability.png")
        await asyncio.to_thread(path.write_bytes, segmentation.probability_png)

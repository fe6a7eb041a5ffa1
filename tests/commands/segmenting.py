"""How alnet segment is called in tests, and what the service makes of the same upload."""

import asyncio
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from service.cli import app
from service.engine.choosing import Wish, load_engine
from service.engine.device import Device
from service.engine.image_work import Upload
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmentation
from service.engine.version_maker import join
from service.imaging.statistics import FEATURES
from service.settings import Settings
from service.store.card import TrainingImages
from service.store.checkpoint import Checkpoint
from tests.cards import make_card

LIKE_ANYTHING = TrainingImages(features=FEATURES, mean=(0.0,) * len(FEATURES), scale=(1.0,) * len(FEATURES), limit=1e6)


def picture(height: int, width: int) -> PillowImage.Image:
    """Return noise."""
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PillowImage.fromarray(pixels)


def segment(published: Checkpoint, *arguments: str | Path, modality: str = "retina") -> Result:
    """Call `alnet segment` with the store that holds `published`, on the CPU."""
    store = published.folder.parents[1]
    options = ["--modality", modality, "--store", str(store), "--device", "cpu"]
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *options])


def nowhere(folder: Path) -> Checkpoint:
    """Return a checkpoint of a store that is not there: whoever opens it fails."""
    return Checkpoint(make_card(), folder / "none" / "retina" / "1")


def service_answer(checkpoint: Checkpoint, image: bytes) -> Segmentation:
    """Return what the service makes of an upload."""

    async def answer() -> Segmentation:
        engine = load_engine(checkpoint, Wish(device="cpu"))
        with PixelPool(1) as pool:
            async with Device("network") as device:
                version = join(engine, Settings.read({}), device=device, pool=pool, max_queued=8)
                async with version.batcher:
                    upload = Upload(image=image, probability=True)
                    return await version.segmenter.segment(upload, arrived=asyncio.get_running_loop().time())

    return asyncio.run(answer())

"""What several commands are tried on."""

from pathlib import Path

import pytest

from service.imaging.policy import InputPolicy
from service.store.checkpoint import Checkpoint
from tests.checkpoints import publish_tiny
from tests.commands.segmenting import LIKE_ANYTHING, picture


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with one small checkpoint, retina 1."""
    return publish_tiny(tmp_path_factory.mktemp("store")).folder.parents[1]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return a checkpoint for tiles, which no image is unlike."""
    grid = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    return publish_tiny(tmp_path_factory.mktemp("store"), input=grid, training_images=LIKE_ANYTHING)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four images, and what is none."""
    folder = tmp_path_factory.mktemp("images")
    for name, height, width in (("a.png", 64, 64), ("b.bmp", 100, 130), ("c.JPG", 9, 7), ("d.tif", 200, 30)):
        picture(height, width).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image either")
    (folder / "deeper.png").mkdir()
    return folder

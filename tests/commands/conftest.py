"""What several commands are tried on."""

from pathlib import Path

import pytest

from tests.checkpoints import publish_tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with one small checkpoint, retina 1."""
    return publish_tiny(tmp_path_factory.mktemp("store")).folder.parents[1]

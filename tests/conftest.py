"""What every test may ask for."""

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_sessionstart() -> None:
    """Import the tests without collecting garbage: what they import stays, and looking through it took a quarter."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Set aside what was imported, as the server does; what tests leave behind is collected as ever.

    Going through all that takes half a second, and every version that a test's fleet begins to serve asks for it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_random_weights() -> None:
    """A network built in a test has the same weights in every run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets (their terms forbid shipping them); the test is skipped where it is missing."""
    folder = Path(os.environ.get("ALNET_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip("real data not found: set ALNET_TEST_DATA to the folder that holds stare, isbi2012, isic2018")
    return folder

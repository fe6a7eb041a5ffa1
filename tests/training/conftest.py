"""One whole training run, shared by all tests that only look at what came of it."""

import pytest

from tests.one_thread import one_thread
from tests.training.alnet_train import Run, train

_one_thread = pytest.fixture(autouse=True)(one_thread)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run of four epochs, from start to end in one go."""
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    done = train(run)
    assert done.returncode == 0, done.stderr
    return run

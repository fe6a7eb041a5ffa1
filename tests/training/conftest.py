"""One whole training run, shared by all tests that only look at what came of it."""

from collections.abc import Iterator

import pytest
import torch

from tests.training.alnet_train import Run, train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For tensors so small one thread is quickest, above all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run of four epochs, from start to end in one go."""
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    done = train(run)
    assert done.returncode == 0, done.stderr
    return run

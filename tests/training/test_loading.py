"""Loading processes: what they hand over, and what is said when one of them fails."""

import os
import resource
import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from service.errors import BadConfig, BadDataset
from service.training.config import Config, configure
from service.training.loading import Batches, loaded, make_batches
from service.training.order import EpochOrder, Key

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Blank items; each is made after `before` was called, in whichever process makes it."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        self._before()
        return torch.zeros(3, 64, 64), torch.zeros(1, 64, 64)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _find_no_file() -> None:
    raise BadDataset("images/7.png cannot be read: it was there a minute ago")


def _find_no_memory() -> None:
    raise MemoryError


def _find_no_shared_memory() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))  # of this loading process: shared memory is a file


def _err() -> None:
    raise RuntimeError("a bug")


def _config(workers: int) -> Config:
    return configure("data", "retina", "quick", {"workers": workers, "batch_size": 2, "cache_gib": 0.5})


def _batches(before: Callable[[], None], workers: int) -> Batches:
    return make_batches(Items(before), EpochOrder(8, length=8, seed=0), _config(workers), CPU)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_of_an_epoch_is_handed_over(workers: int) -> None:
    batches = _batches(lambda: None, workers)
    for _ in range(2):
        assert [images.shape for images, _ in loaded(batches)] == [(2, 3, 64, 64)] * 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanished_is_named_whichever_process_missed_it(workers: int) -> None:
    with pytest.raises(BadDataset, match=r"^images/7\.png cannot be read: it was there a minute ago$"):
        list(loaded(_batches(_find_no_file, workers)))


@pytest.mark.filterwarnings(  # while torch sends the loader's processes home, the signal may say it once more
    "ignore:Exception ignored in.*_MultiProcessingDataLoaderIter:pytest.PytestUnraisableExceptionWarning"
)
def test_a_loading_process_that_was_killed_is_reported_with_advice() -> None:
    with pytest.raises(
        BadConfig, match=r"a loading process failed \(.*\): if memory was short.*fewer than --workers 1"
    ):
        list(loaded(_batches(_die, 1)))


def test_too_little_shared_memory_is_known_from_other_troubles() -> None:
    with pytest.raises(BadConfig, match=r"too little shared memory \(/dev/shm\).*--shm-size.*--workers 0"):
        list(loaded(_batches(_find_no_shared_memory, 1)))


@pytest.mark.parametrize(("workers", "fewer"), [(0, ""), (1, "fewer than --workers 1 or ")])
def test_out_of_memory_while_loading_is_answered_with_a_smaller_cache(workers: int, fewer: str) -> None:
    advice = f"out of memory while loading images: if memory was short, go on with {fewer}a smaller --cache-gib$"
    with pytest.raises(BadConfig, match=advice):
        list(loaded(_batches(_find_no_memory, workers)))


def test_a_bug_in_the_training_process_itself_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        list(loaded(_batches(_err, 0)))

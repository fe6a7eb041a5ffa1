"""Memory and disk that do not suffice: a person is told how much was asked for, and what to do."""

import errno
import os

import pytest
import torch

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.training.config import Config, configure
from service.training.resources import memory_for_a_step, memory_for_validation, room_on_disk

CPU = torch.device("cpu")


def _config(crop_px: int | None = None) -> Config:
    grid = InputPolicy(kind="stretch", height=64, width=96)
    return configure("data", "own", "quick", {"input": grid, "batch_size": 3, "crop_px": crop_px})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=["disk", "quota", "limit"])
def test_a_disk_without_room_is_told_with_the_file_and_advice(number: int) -> None:
    with pytest.raises(OSError, match="make room there, and the same command goes on") as failed, room_on_disk():
        raise OSError(number, os.strerror(number), "run/state")
    assert (failed.value.errno, failed.value.filename) == (number, "run/state")


def test_another_fault_of_a_disk_is_told_as_it_is() -> None:
    fault = PermissionError(errno.EACCES, "Permission denied", "run/state")
    with pytest.raises(PermissionError) as failed, room_on_disk():
        raise fault
    assert failed.value is fault
    assert "make room" not in str(fault)


@pytest.mark.parametrize(("crop_px", "crops"), [(32, "32"), (None, "the whole grid")])
def test_of_a_step_without_memory_it_is_told_what_it_needed(crop_px: int | None, crops: str) -> None:
    with (
        pytest.raises(BadConfig, match=f"on cpu with batches of 3 and crops of {crops}: "),
        memory_for_a_step(_config(crop_px), CPU),
    ):
        raise MemoryError


def test_of_a_validation_without_memory_the_grid_is_told() -> None:
    with pytest.raises(BadConfig, match="on a grid of 64 × 96: "), memory_for_validation(_config(), CPU):
        raise MemoryError

"""The processes of a run: alone without torchrun; with it, each one's place and device."""

import logging

import pytest
import torch

from service.training.config import Config, configure
from service.training.processes import check_shared, leads, make_fabric, part


def _config(**changes: object) -> Config:
    return configure("data", "retina", "paper", changes)


def test_fabric_is_quiet(recwarn: pytest.WarningsRecorder) -> None:
    fabric = make_fabric(_config(precision="bfloat16"))
    assert (fabric.world_size, fabric.is_global_zero) == (1, True)
    assert not logging.getLogger("lightning_fabric.utilities.rank_zero").isEnabledFor(logging.INFO)
    assert not recwarn.list


def test_without_torchrun_a_process_trains_alone_and_speaks() -> None:
    fabric = make_fabric(_config(precision="float32"))
    assert leads()
    check_shared(fabric, 3)
    part(fabric)
    assert not torch.distributed.is_initialized()

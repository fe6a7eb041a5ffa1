"""The processes of a run: alone without torchrun; with it, each one's place and device."""

import logging

import pytest
import torch

from service.errors import BadConfig
from service.training.config import Config, configure
from service.training.processes import check_agreed, check_shared, fastest_precision, make_fabric, part
from service.training.torchrun import leads


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
    check_agreed(fabric, _config(precision="float32"))
    part(fabric)
    assert not torch.distributed.is_initialized()


def test_processes_that_found_another_arithmetic_faster_than_rank_0_did_are_refused() -> None:
    class OfRank1:
        global_rank = 1

        def broadcast(self, precision: str) -> str:
            return {"bfloat16": "float32"}[precision]

    with pytest.raises(BadConfig, match="rank 1 found bfloat16 faster, rank 0 float32: choose one for all with --prec"):
        check_agreed(OfRank1(), _config(precision="bfloat16"))  # type: ignore[arg-type]
    assert fastest_precision() in {"bfloat16", "float32"}


def test_a_gpu_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turing:
        major, minor = 7, 5

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Turing)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert fastest_precision() == "float32"
    Turing.major = 8
    assert fastest_precision() == "bfloat16"

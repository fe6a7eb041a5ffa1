"""The processes of a run: alone without torchrun; with it, each one's place and device."""

import logging

import pytest
import torch

from service.errors import BadConfig
from service.training.config import Config, configure
from service.training.processes import (
    check_agreed,
    check_same_data,
    check_shared,
    fastest_precision,
    make_fabric,
    part,
)
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


class OfRank1:
    """Of two processes the second; the first broadcasts what it is made with."""

    global_rank = 1

    def __init__(self, of_rank_0: str) -> None:
        self._of_rank_0 = of_rank_0

    def broadcast(self, _ours: str) -> str:
        return self._of_rank_0


def test_processes_that_found_another_arithmetic_faster_than_rank_0_did_are_refused() -> None:
    rank_1 = OfRank1(_config(precision="float32").model_dump_json())
    with pytest.raises(BadConfig, match="rank 1 found bfloat16 faster, rank 0 float32: choose one for all with --prec"):
        check_agreed(rank_1, _config(precision="bfloat16"))  # type: ignore[arg-type]
    assert fastest_precision() in {"bfloat16", "float32"}


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"seed": 1}, "--seed"),
        ({"network": {"decoder": "u"}}, "--network-option"),
        ({"folds": 5, "fold": 2}, "--folds"),
    ],
)
def test_processes_that_were_asked_for_another_run_than_rank_0_are_refused(
    changes: dict[str, object], option: str
) -> None:
    rank_1 = OfRank1(_config(precision="float32").model_dump_json())
    with pytest.raises(BadConfig, match=f"rank 1 was given another {option} than rank 0: start the same command on"):
        check_agreed(rank_1, _config(precision="float32", **changes))  # type: ignore[arg-type]
    elsewhere = _config(precision="float32").model_copy(update={"data": "/elsewhere", "workers": 3})
    check_agreed(rank_1, elsewhere)  # type: ignore[arg-type]


def test_processes_that_read_other_data_than_rank_0_are_refused() -> None:
    check_same_data(OfRank1("a"), "a")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match=r"rank 1 finds other images, .* give all nodes the same data"):
        check_same_data(OfRank1("a"), "b")  # type: ignore[arg-type]


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

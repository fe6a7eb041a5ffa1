"""What torchrun tells a process: whether it speaks for all, and how many there are."""

import pytest

from service.errors import BadConfig
from service.training.torchrun import by_torchrun, here_and_nodes, leads


def test_without_torchrun_a_process_is_alone() -> None:
    assert (by_torchrun(), leads(), here_and_nodes()) == (False, True, (1, 1))


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("3", False)])
def test_of_several_that_of_rank_0_speaks(rank: str, speaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _tell(monkeypatch, rank, world="4", here="2")
    assert (by_torchrun(), leads(), here_and_nodes()) == (True, speaks, (2, 2))


def test_uneven_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _tell(monkeypatch, "2", world="3", here="2")
    with pytest.raises(BadConfig, match="2 of 3 processes are on this node: start as many on every node"):
        here_and_nodes()


def _tell(monkeypatch: pytest.MonkeyPatch, rank: str, *, world: str, here: str) -> None:
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": here}
    for name, value in told.items():
        monkeypatch.setenv(name, value)

"""From a card and bytes to a network: whose fault it is when that fails."""

from pathlib import Path

import pytest

from service.engine.memory import is_out_of_memory
from service.engine.weights import build_network, read_state
from service.errors import BadCheckpoint
from service.store.checkpoint import Checkpoint
from tests.checkpoints import TINY, publish_tiny

MORE_THAN_ANY_MEMORY = 10**13


def with_head(store: Path, channels: int) -> Checkpoint:
    return publish_tiny(store, architecture_config=TINY | {"head_channels": channels})


def test_want_of_memory_is_not_the_checkpoints_fault(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path, MORE_THAN_ANY_MEMORY)
    with pytest.raises(RuntimeError) as caught:
        build_network(checkpoint.card, read_state(checkpoint))
    assert is_out_of_memory(caught.value)
    assert not isinstance(caught.value, BadCheckpoint)


def test_what_no_network_can_be_built_of_is_told_in_one_line_without_paths(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path, 10**30)
    with pytest.raises(BadCheckpoint, match="cannot build its network") as caught:
        build_network(checkpoint.card, read_state(checkpoint))
    assert "\n" not in str(caught.value)
    assert ".so" not in str(caught.value)


def test_weights_that_do_not_fit_name_the_first_that_does_not(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path, architecture_config=TINY | {"widths": [4, 4, 4, 4, 16]})
    with pytest.raises(BadCheckpoint, match=r"weights do not fit al-net: size mismatch for \S+: copying") as caught:
        build_network(checkpoint.card, read_state(checkpoint))
    assert "\n" not in str(caught.value)

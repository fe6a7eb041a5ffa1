"""From a card and bytes to a network: whose fault it is when that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.engine.device_loss import why_lost
from service.engine.memory import is_out_of_memory
from service.engine.weights import build_network, read_state
from service.errors import BadCheckpoint
from service.store.checkpoint import Checkpoint
from tests.checkpoints import TINY, publish_tiny


class Scarce(dict[str, Tensor]):
    """Weights for which memory runs out when they are taken."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    keys = items = __iter__  # type: ignore[assignment]


def with_head(store: Path, channels: int) -> Checkpoint:
    return publish_tiny(store, architecture_config=TINY | {"head_channels": channels})


def test_want_of_memory_is_not_the_checkpoints_fault(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        build_network(checkpoint.card, Scarce(read_state(checkpoint)))
    assert is_out_of_memory(caught.value)
    assert not isinstance(caught.value, BadCheckpoint)


def test_what_no_network_can_be_built_of_is_told_in_one_line_without_paths(tmp_path: Path) -> None:
    checkpoint = with_head(tmp_path, 10**30)
    with pytest.raises(BadCheckpoint, match="cannot build its network") as caught:
        build_network(checkpoint.card, read_state(checkpoint))
    assert "\n" not in str(caught.value)
    assert ".so" not in str(caught.value)


def test_a_network_that_no_memory_holds_is_compared_with_the_weights_before_it_has_any(tmp_path: Path) -> None:
    """Its last block alone would have 150 GB."""
    config = TINY | {"blocks": [1, 1, 1, 1, 2], "widths": [4, 4, 4, 4, 65_536]}
    checkpoint = publish_tiny(tmp_path, architecture_config=config)
    with pytest.raises(BadCheckpoint, match="weights do not fit al-net: "):
        build_network(checkpoint.card, read_state(checkpoint))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_of_any_precision_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = publish_tiny(tmp_path)
    state = read_state(checkpoint)
    network = build_network(checkpoint.card, {name: tensor.to(dtype) for name, tensor in state.items()})
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, state[name], atol=1e-3, rtol=1e-3)


def test_weights_that_do_not_fit_name_the_first_that_does_not(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path, architecture_config=TINY | {"widths": [4, 4, 4, 4, 16]})
    with pytest.raises(BadCheckpoint, match=r"do not fit al-net: \S+ has shape \(\d.*\), not \(\d.*\)") as caught:
        build_network(checkpoint.card, read_state(checkpoint))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["unspecified launch failure", "out of memory", "CUDA error: unknown error\nred"])
def test_a_tensor_that_is_named_like_a_fault_of_the_device_is_the_checkpoints_fault(tmp_path: Path, name: str) -> None:
    checkpoint = publish_tiny(tmp_path)
    with pytest.raises(BadCheckpoint, match=r"do not fit al-net: they have '.* beyond it") as caught:
        build_network(checkpoint.card, read_state(checkpoint) | {name: torch.zeros(1)})
    assert not why_lost(caught.value)
    assert not is_out_of_memory(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_that_counts_other_parameters_than_there_are_is_no_card_of_these(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    card = checkpoint.card.model_copy(update={"parameters": 5})
    with pytest.raises(BadCheckpoint, match=r"has \d+ parameters, its card says 5"):
        build_network(card, read_state(checkpoint))

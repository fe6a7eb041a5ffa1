"""From a card and the bytes of its weights to its network."""

from collections.abc import Mapping

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from service.engine.memory import is_out_of_memory
from service.errors import BadCheckpoint, BadConfig, first_line
from service.network import build_reparameterized, count_parameters
from service.store.card import Card
from service.store.checkpoint import Checkpoint


def read_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the checkpoint's tensors. Raises BadCheckpoint if they cannot be read or are not the card's."""
    return parse_state(checkpoint.card, checkpoint.read_weights())


def parse_state(card: Card, weights: bytes) -> dict[str, Tensor]:
    """Return the tensors in `weights`, a safetensors archive. Raises BadCheckpoint if it cannot be read."""
    try:
        return load(weights)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a dtype that safetensors cannot give to torch
        raise BadCheckpoint(f"{card.modality}/{card.version}: weights.safetensors is damaged: {error}") from error


def build_network(card: Card, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the card's network with these weights, re-parameterised, in float32 on the CPU.

    It takes no more memory than the weights, whatever network the card describes: it is built without any, and is given
    the tensors once their names and shapes are known to fit. Tensors that are float32 are not copied.

    Raises:
        BadCheckpoint: weights and card contradict each other, or a weight is NaN or infinite.
        MemoryError, RuntimeError: memory ran out (`is_out_of_memory`), which is not the checkpoint's fault.
    """
    name = f"{card.modality}/{card.version}"
    try:
        with torch.device("meta"):
            network = build_reparameterized(card.architecture, **card.architecture_config)
        if misfit := _misfit(network, weights):
            raise BadCheckpoint(f"{name}: weights do not fit {card.architecture}: {misfit}")
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True, assign=True)
    except BadConfig as error:
        raise BadCheckpoint(f"{name}: this version cannot build its network: {first_line(error)}") from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise BadCheckpoint(f"{name}: weights do not fit {card.architecture}: {first_line(error)}") from error
    if (found := count_parameters(network)) != card.parameters:
        raise BadCheckpoint(f"{name}: its network has {found} parameters, its card says {card.parameters}")
    if not all(np.isfinite(tensor.numpy()).all() for tensor in network.state_dict().values()):
        raise BadCheckpoint(f"{name}: weights hold NaN or infinity")
    return network


def _misfit(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return in words the first tensor that is missing, not the network's or of another shape; "" if there is none.

    PyTorch would say so in a RuntimeError that quotes the archive's names, which may read like a CUDA fault.
    """
    own = network.state_dict()
    for tensor in sorted(own.keys() | weights.keys()):
        if tensor not in weights:
            return f"they lack {tensor}"
        if tensor not in own:
            return f"they have {tensor!r} beyond it"
        if (found := tuple(weights[tensor].shape)) != (expected := tuple(own[tensor].shape)):
            return f"{tensor} has shape {found}, not {expected}"
    return ""

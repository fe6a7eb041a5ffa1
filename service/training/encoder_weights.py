"""What an encoder begins with: weights that others trained on ImageNet, or that a run of ours trained on other data."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from service.errors import BadConfig
from service.network.efficientnet import MBConv, Stem
from service.network.repvgg import Encoder, RepVGGBlock
from service.training.efficientnet_weights import load_efficientnet
from service.training.plain_network import load_plain
from service.training.repvgg_weights import load_repvgg
from service.training.tensor_file import read_tensors, tensor_like

OURS = "encoder."
"""The prefix of the encoder's tensors in our own networks, in `best.safetensors` of a run folder."""

PUBLISHED = f"{OURS}stages.0.0.0.weight"
"""A tensor that every published network with a RepVGG encoder has: its blocks are single convolutions."""


def load_encoder_weights(network: nn.Module, path: Path) -> str:
    """Give `network`'s encoder the weights of `path`; return one line for the log: what was loaded and kept.

    The file is a checkpoint of `torch.save` with tensors only, plain or under "state_dict" or "model", or safetensors;
    names may begin with "module.". It holds

    - a RepVGG as its authors publish it, for a RepVGG encoder: see `load_repvgg`;
    - an EfficientNet-Lite, for such an encoder: see `load_efficientnet`;
    - a whole network that a run of ours trained (`best.safetensors` in its folder), with an encoder of the same shapes:
      training on one data set then begins with what another taught;
    - or such a network in its published form (`weights.safetensors` in the store). Its encoder must be settled before
      it is trained: see `service.training.plain_encoder`.

    Raises:
        BadConfig: the network has no such encoder in training form; or the file is missing, unreadable, holds more than
            tensors, or does not fit. The network is unchanged.
    """
    encoder = _encoder(network)
    tensors = read_tensors(path)
    if PUBLISHED in tensors and _consists_of(encoder, RepVGGBlock):
        load_plain(encoder, tensors, path.name, prefix=OURS)
        return f"encoder weights from {path.name}: all of them, from a published network of ours"
    if any(name.startswith(OURS) for name in tensors):
        return f"encoder weights from {path.name}: {_load_ours(encoder, tensors, path.name)}"
    load = load_repvgg if _consists_of(encoder, RepVGGBlock) else load_efficientnet
    return f"encoder weights from {path.name}: {load(encoder, tensors, path.name)}"


def _encoder(network: nn.Module) -> Encoder:
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, Encoder) and (_consists_of(encoder, RepVGGBlock) or _consists_of(encoder, MBConv, Stem)):
        return encoder
    raise BadConfig(
        "encoder weights are a RepVGG's or an EfficientNet-Lite's, and this network has neither in training form"
    )


def _consists_of(encoder: Encoder, *kinds: type[nn.Module]) -> bool:
    return all(isinstance(part, kinds) for stage in encoder.stages for part in stage.children())


def _load_ours(encoder: Encoder, tensors: Mapping[str, Tensor], file: str) -> str:
    encoder.load_state_dict(
        {
            name: tensor_like(ours, tensors, OURS + name, file, kind="run of this encoder")
            for name, ours in encoder.state_dict().items()
        }
    )
    return "all of them, from a network of ours"

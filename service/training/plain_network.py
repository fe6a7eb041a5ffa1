"""A whole network that begins with what another has learnt: one that was published, or one that a run keeps.

A published network has single convolutions, without batch norms: see `service.training.plain_encoder`.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import reparameterize
from service.network.alnet import ALNet, PlainALNet
from service.network.cenet import TransposedNormReLU
from service.network.convolution import ConvNorm, begin_computing
from service.network.efficientnet import SameConvNorm
from service.network.repvgg import RepVGGBlock
from service.training.tensor_file import read_tensors, tensor_like

NORMALISED = ConvNorm | SameConvNorm | TransposedNormReLU
"""One convolution and its batch norm, which are one convolution once published."""


def load_network(network: nn.Module, path: Path) -> str:
    """Give the whole `network` the weights of `path`; return one line for the log.

    The file is `weights.safetensors` of a published checkpoint, or `best.safetensors` of a run, of the same
    architecture, built with the same options. The network must be settled before it is trained.

    Raises:
        BadConfig: the file is missing, unreadable, holds more than tensors, or does not fit. The network is unchanged.
    """
    tensors = read_tensors(path)
    if not (_parts_of(network.state_dict()) - {"encoder"}) & _parts_of(tensors):
        raise BadConfig(
            f"{path.name} holds no whole network of ours; an encoder alone, as `alnet pretrain` or RepVGG's authors"
            " give it, is begun with without --fine-tune"
        )
    if network.state_dict().keys() <= tensors.keys():
        network.load_state_dict(_all_of(network, tensors, path.name))
        return f"weights from {path.name}: all of them, from a network of ours"
    load_plain(network, tensors, path.name)
    return f"weights from {path.name}: all of them, from a published network of ours"


def load_soup(network: nn.Module, paths: Sequence[Path]) -> str:
    """Give the whole `network` the mean of the weights in `paths`, one at least; return one line for the log.

    This is a model soup (Wortsman et al., ICML 2022) of networks that were trained further from one another, or from
    the same one. The forms that would be published are averaged, in which the branches of a block are added up: they
    may divide the work differently in each network. A file is as in `load_network`; one that is given twice counts
    twice. The network must be settled before it is trained.

    Raises:
        BadConfig: as `load_network`. The network is unchanged.
    """
    parts = [_plain_weights(network, path) for path in paths]
    mean = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
    load_plain(network, mean, "the mean")
    return f"weights: the mean of {len(paths)} networks of ours, {', '.join(path.name for path in paths)}"


def _plain_weights(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return, in float64, the re-parameterised weights of a network like this one with the weights of `path`."""
    one = copy.deepcopy(network)
    load_network(one, path)
    return {name: tensor.double() for name, tensor in reparameterize(one).state_dict().items()}


def _parts_of(tensors: Mapping[str, Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in tensors}


def load_plain(part: nn.Module, tensors: Mapping[str, Tensor], file: str, *, prefix: str = "") -> None:
    """Make a network, or a `part` of one, compute in evaluation mode what that of a published network does.

    The published tensors' names begin with `prefix`. The part must be settled before it is trained.

    Raises:
        BadConfig: they do not fit. The part is unchanged.
    """
    plain = reparameterize(part)
    plain.load_state_dict(_all_of(plain, tensors, file, prefix=prefix))
    _begin(part, plain)


def _all_of(part: nn.Module, tensors: Mapping[str, Tensor], file: str, *, prefix: str = "") -> dict[str, Tensor]:
    kind = "checkpoint of a network that is built like this one"
    own = part.state_dict()
    weights = {name: tensor_like(ours, tensors, prefix + name, file, kind=kind) for name, ours in own.items()}
    if beyond := sorted(name for name in tensors if name.startswith(prefix) and name[len(prefix) :] not in weights):
        raise BadConfig(f"{file} is no {kind}: it has {beyond[0]} beyond it")
    return weights


@torch.no_grad()
def _begin(module: nn.Module, plain: nn.Module) -> None:
    """Make `module` compute in evaluation mode what `plain`, the re-parameterised form of such a module, does."""
    if isinstance(module, RepVGGBlock):
        module.begin_plain(*_kernel_and_bias(plain))
        return
    if isinstance(module, NORMALISED):
        begin_computing(module.conv, module.norm, *_kernel_and_bias(plain))
        return
    parts = dict(module.named_children())
    if isinstance(module, ALNet) and isinstance(plain, PlainALNet):
        module.begin_multiplied(plain.low, plain.high)
        parts = {name: part for name, part in parts.items() if name not in {"low", "high", "out"}}
    elif not parts:
        module.load_state_dict(plain.state_dict())
    for name, part in parts.items():
        _begin(part, plain.get_submodule(name))


def _kernel_and_bias(plain: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the kernel and bias of a convolution, or of one with a ReLU behind it."""
    kernel, bias = plain.state_dict().values()
    return kernel, bias

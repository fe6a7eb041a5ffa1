"""Networks by name, in the form that is trained and in the form that is served."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Protocol, get_args, runtime_checkable

from torch import nn

from service.errors import BadConfig
from service.network.alnet import al_net
from service.network.cenet import CENet
from service.network.deeplabv3plus import DeepLabV3Plus
from service.network.pyconvunet import PyConvUNet
from service.network.repvgg_unet import repvgg_unet
from service.network.unetplusplus import UNetPlusPlus

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "al-net": al_net,
    "repvgg-unet": repvgg_unet,
    "deeplabv3plus": DeepLabV3Plus,
    "cenet": CENet,
    "unetplusplus": UNetPlusPlus,
    "pyconvunet": PyConvUNet,
}
"""Every architecture that `build` knows; each takes (N, 3, H, W) and gives logits (N, 1, H, W)."""

LARGEST = 65_536
"""Largest number in a configuration: no memory holds a convolution from this many channels to as many."""

LONGEST = 16
"""Most numbers in a row, each for a stage or level: each halves the image, and no image can be halved more often."""

KINDS: dict[object, str] = {
    str: "a word",
    int: f"a whole number from 1 to {LARGEST}",
    Sequence[int]: f"whole numbers from 1 to {LARGEST} with commas between them (8,16,32), {LONGEST} at most",
}
"""The kinds of values that architectures are built with, in words; None, for their own choice, is another."""


@runtime_checkable
class Reparameterizable(Protocol):
    """A module that can be replaced by a plainer one that computes the same in evaluation mode."""

    def reparameterize(self) -> nn.Module:
        """Return the plain module."""


def build(name: str, /, **config: object) -> nn.Module:
    """Return the architecture `name` with random weights, as it is trained.

    Raises:
        BadConfig: there is no such architecture, or it does not take this `config`.
    """
    check_values(name, **config)
    try:
        return ARCHITECTURES[name](**config)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"{name} does not take this configuration: {error}") from error


def check_values(name: str, /, **config: object) -> None:
    """Check that the architecture `name` exists and takes these kinds of values. Nothing is built.

    Raises:
        BadConfig: it does not exist, has no option of that name, or takes another kind of value for it.
    """
    if name not in ARCHITECTURES:
        raise BadConfig(f"no architecture {name!r}; there are: {', '.join(sorted(ARCHITECTURES))}")
    try:
        _check_values(ARCHITECTURES[name], config)
    except ValueError as error:
        raise BadConfig(f"{name} does not take this configuration: {error}") from error


def reparameterize(network: nn.Module) -> nn.Module:
    """Return a new, plain network in evaluation mode that computes what `network` does in evaluation mode.

    Every RepVGG block becomes one 3×3 convolution and ReLU (AL-Net paper, § 3.5 and Fig. 4), and everything else that
    can be folded exactly is folded. `network` itself does not change.
    """
    return _plain(copy.deepcopy(network).eval()).eval()


def build_reparameterized(name: str, /, **config: object) -> nn.Module:
    """Return the architecture `name` in the form that is served; a published checkpoint holds its state dict."""
    return reparameterize(build(name, **config))


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, as the paper's Tables 2 to 5 count them (for AL-Net: re-parameterised)."""
    return sum(parameter.numel() for parameter in network.parameters())


def _check_values(architecture: Callable[..., nn.Module], config: Mapping[str, object]) -> None:
    """Raise ValueError if the architecture's signature lacks a name, or names another kind of value for it."""
    takes = inspect.signature(architecture).parameters
    for name, value in config.items():
        if name not in takes:
            known = f"there are {', '.join(takes)}" if takes else "there are none"
            raise ValueError(f"it has no option {name!r}; {known}")
        hint = takes[name].annotation
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if not any(_is_of_kind(value, kind) for kind in kinds):
            wanted = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
            raise ValueError(f"{name} must be {wanted}, not {value!r}")


def _is_of_kind(value: object, kind: object) -> bool:
    if kind == Sequence[int]:
        return isinstance(value, list | tuple) and 0 < len(value) <= LONGEST and all(_is_of_kind(n, int) for n in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST
    return isinstance(value, str) if kind is str else value is None


def _plain(module: nn.Module) -> nn.Module:
    """Replace `module`'s children by plain ones, then `module` itself."""
    for name, child in module.named_children():
        setattr(module, name, _plain(child))
    return module.reparameterize() if isinstance(module, Reparameterizable) else module

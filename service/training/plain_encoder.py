"""The encoder of a published checkpoint, trainable again: its blocks are single convolutions, without batch norms.

A batch norm that trains normalises by the batch, so one that is merely set to change nothing would change all. Each is
given the statistics that its inputs have on training images, and a scale and shift that undo it there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from service.errors import BadConfig
from service.network.convolution import scale_and_shift
from service.network.repvgg import Encoder, RepVGGBlock
from service.training.tensor_file import tensor_like

KERNEL, BIAS = "0.weight", "0.bias"
"""Of a block in plain form, which is a convolution and its ReLU."""

FIRST = "stages.0.0"
"""The first block of every encoder."""


def load_plain(encoder: Encoder, tensors: Mapping[str, Tensor], prefix: str, file: str) -> None:
    """Let each RepVGG block compute, in evaluation mode, what the convolution of that place in `tensors` does.

    Their names begin with `prefix`. To be trained, the encoder must be settled.

    Raises:
        BadConfig: a convolution is missing, of another shape, or not of finite numbers. The encoder is unchanged.
    """
    blocks = _blocks(encoder)

    def of(name: str, what: str, like: Tensor) -> Tensor:
        return tensor_like(like, tensors, f"{prefix}{name}.{what}", file, kind="published network with this encoder")

    plain = {
        name: (of(name, KERNEL, block.conv3x3.weight), of(name, BIAS, block.norm3x3.bias))
        for name, block in blocks.items()
    }
    if beyond := sorted(_convolutions(tensors, prefix) - plain.keys()):
        raise BadConfig(f"{file} is no published network with this encoder: it has a block {beyond[0]} beyond it")
    for name, (kernel, bias) in plain.items():
        blocks[name].begin_plain(kernel, bias)


def plain_encoder(network: nn.Module) -> Encoder | None:
    """Return the network's encoder if `load_plain` has filled it, and it has not been trained since; else None."""
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        return None
    blocks = _blocks(encoder).values()
    return encoder if blocks and all(block.is_plain for block in blocks) else None


@torch.no_grad()
def settle(network: nn.Module, images: Tensor) -> None:
    """Let every batch norm expect what these images show it, so that training begins with what is computed without.

    `network` is a whole one or an encoder; `images` are normalised, float32 (N, 3, h, w). In evaluation mode it
    computes what it did; in training mode the same, on batches that are like them (data-dependent initialisation:
    Krähenbühl et al., 2016).
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_expect) for norm in norms]
    was_training = network.training
    network.eval()(images)
    network.train(was_training)
    for hook in hooks:
        hook.remove()


def _expect(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give a batch norm the statistics of its inputs; what it makes of them stays the same."""
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 -- registered for nothing else
    scale, shift = scale_and_shift(norm)
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
    assert norm.running_var is not None  # noqa: S101 -- `scale_and_shift` has seen to it
    assert norm.running_mean is not None  # noqa: S101
    norm.running_var.copy_(variance)
    norm.running_mean.copy_(mean)
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.bias.copy_(shift + scale * mean)


def _blocks(encoder: Encoder) -> dict[str, RepVGGBlock]:
    """Return the encoder's blocks by their names, in order; none of an encoder that consists of others."""
    named = {
        f"stages.{stage}.{number}": part
        for stage, parts in enumerate(encoder.stages)
        for number, part in parts.named_children()
    }
    blocks = {name: part for name, part in named.items() if isinstance(part, RepVGGBlock)}
    return blocks if len(blocks) == len(named) else {}


def _convolutions(tensors: Mapping[str, Tensor], prefix: str) -> set[str]:
    """Return the names of the convolutions of a plain encoder."""
    return {
        name.removeprefix(prefix).removesuffix(f".{KERNEL}")
        for name in tensors
        if name.startswith(prefix) and name.endswith(KERNEL)
    }

"""Makes what is published trainable again: its blocks are single convolutions, without batch norms.

In training a batch norm normalises by the batch, so one that is merely set to the identity would change everything.
Each is instead given the statistics that its inputs have on training images, and a scale and shift that undo the
normalisation there.
"""

import torch
from torch import Tensor, nn

from service.network.convolution import scale_and_shift
from service.network.repvgg import Encoder, RepVGGBlock


def plain_encoder(network: nn.Module) -> Encoder | None:
    """Return the network's encoder if `load_plain` has filled it, and it has not been trained since; else None."""
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        return None
    blocks = [part for stage in encoder.stages for part in stage.children()]
    return encoder if all(isinstance(block, RepVGGBlock) and block.is_plain for block in blocks) else None


@torch.no_grad()
def settle(network: nn.Module, images: Tensor) -> None:
    """Give every batch norm the statistics of these images, so that training begins with what is computed without.

    `network` is a whole one or an encoder; `images` are normalised, float32 (N, 3, h, w). In evaluation mode the
    network computes what it did before; in training mode it computes the same on batches that are like these images
    (data-dependent initialisation: Krähenbühl et al., 2016).
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_expect) for norm in norms]
    was_training = network.training
    network.eval()(images)
    network.train(was_training)
    for hook in hooks:
        hook.remove()


def _expect(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give a batch norm the statistics of its inputs; its outputs for them stay the same."""
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 -- registered for nothing else
    scale, shift = scale_and_shift(norm)
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
    assert norm.running_var is not None  # noqa: S101 -- `scale_and_shift` has seen to it
    assert norm.running_mean is not None  # noqa: S101
    norm.running_var.copy_(variance)
    norm.running_mean.copy_(mean)
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.bias.copy_(shift + scale * mean)

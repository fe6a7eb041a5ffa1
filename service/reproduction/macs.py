"""Multiply-accumulate operations of a network, counted without computing them."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs_an_image(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of `network`, in evaluation mode, for one RGB image of `size` (height, width).

    Convolutions and matrix products are counted, padding included, as PyTorch's FlopCounterMode sees them (two
    operations each). Batch norms, activations, pooling and interpolation are not counted. Nothing is computed: a copy
    of the network runs on the meta device, which knows only shapes. `network` is left as it is.
    """
    shapes = copy.deepcopy(network).eval().to("meta", torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, 3, *size, device="meta"))
    operations: int = counter.get_total_flops()
    return operations // 2

"""The moving average of a network's weights: steadier than the last step's, and usually better (EMA)."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of `network`'s weights and batch-norm statistics.

    The decay rises to `decay` over the first steps, so that the random weights of the start are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay, self._source = decay, network
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one optimizer step."""
        self.steps += 1
        share = 1 - min(self._decay, (1 + self.steps) / (10 + self.steps))
        for mean, value in zip(_tensors(self.network), _tensors(self._source), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)  # the number of batches that a batch norm has seen


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]

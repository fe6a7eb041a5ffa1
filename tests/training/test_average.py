"""The moving average of weights: what it is after each step, and that the network knows nothing of it."""

import pytest
import torch
from torch import nn

from service.training.average import WeightAverage


def _set(network: nn.Module, value: float) -> None:
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.data.fill_(value)


def test_the_decay_rises_to_its_value_so_that_the_first_weights_are_soon_forgotten() -> None:
    network = nn.Linear(2, 1)
    _set(network, 0)
    average = WeightAverage(network, 0.5)
    expected = 0.0
    for step, decay in enumerate([2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5], start=1):
        _set(network, step)
        average.update()
        expected = decay * expected + (1 - decay) * step
        assert average.network.get_parameter("weight").flatten().tolist() == pytest.approx([expected, expected])
    assert average.steps == 9


def test_statistics_are_averaged_and_counts_are_taken_over() -> None:
    network = nn.BatchNorm2d(1)
    average = WeightAverage(network, 0.9)
    network.running_mean = torch.tensor([11.0])
    network.num_batches_tracked = torch.tensor(5)
    average.update()
    assert average.network.get_buffer("running_mean").item() == pytest.approx(9.0)
    assert average.network.get_buffer("num_batches_tracked").item() == 5


def test_the_average_follows_the_network_and_never_the_other_way_round() -> None:
    network = nn.Linear(2, 1)
    average = WeightAverage(network, 0.9)
    before = network.weight.detach().clone()
    _set(average.network, 7)
    average.update()
    assert torch.equal(network.weight, before)
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert network.weight.requires_grad

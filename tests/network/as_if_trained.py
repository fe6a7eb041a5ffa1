"""Networks whose batch norms hold random statistics: with fresh ones (mean 0, variance 1) a wrong fold goes unseen."""

import torch
from torch import nn


def as_if_trained(network: nn.Module) -> nn.Module:
    """Give each batch norm random weights and statistics; return the network in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return network.eval()

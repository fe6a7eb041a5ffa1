"""Lite R-ASPP against its formula."""

import torch

from service.network.lraspp import LRASPP
from tests.network.as_if_trained import as_if_trained


def test_features_are_weighted_by_a_hard_sigmoid_of_the_images_mean() -> None:
    context = as_if_trained(LRASPP(3, 4))
    x = 5 * torch.randn(6, 3, 7, 9)
    with torch.inference_mode():
        features, pooled = context.get_submodule("project")(x), x.mean((2, 3))
        kernel, bias = context.get_parameter("gate.weight"), context.get_parameter("gate.bias")
        weights = ((pooled @ kernel[:, :, 0, 0].T + bias) / 6 + 0.5).clamp(0, 1)
        torch.testing.assert_close(context(x), features * weights[:, :, None, None])
    assert len(set(weights.flatten().tolist())) > 12

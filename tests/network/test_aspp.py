"""ASPP: what each branch sees, and that it can be trained on a single image."""

import torch
import torch.nn.functional as F
from torch import nn

from service.network.aspp import ASPP
from tests.network.as_if_trained import as_if_trained


def test_branches_are_a_1x1_three_dilated_3x3_and_the_images_mean() -> None:
    aspp = ASPP(3, 4)
    as_if_trained(aspp)
    convolutions = [module for module in aspp.branches.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.kernel_size[0] for conv in convolutions] == [1, 3, 3, 3]
    assert [conv.dilation[0] for conv in convolutions] == [1, 6, 12, 18]
    x = torch.randn(2, 3, 40, 37)
    with torch.inference_mode():
        mean = F.relu(aspp.mean(F.adaptive_avg_pool2d(x, 1))).repeat(1, 1, 40, 37)
        by_hand = aspp.project(torch.cat([*(branch(x) for branch in aspp.branches), mean], 1))
        torch.testing.assert_close(aspp(x), by_hand)


def test_the_rates_are_the_callers() -> None:
    aspp = ASPP(3, 4, rates=(2, 5))
    convolutions = [module for module in aspp.branches.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.dilation[0] for conv in convolutions] == [1, 2, 5]
    assert aspp.eval()(torch.randn(1, 3, 4, 4)).shape == (1, 4, 4, 4)


def test_the_images_mean_does_not_depend_on_batch_mates_even_in_training() -> None:
    """A batch norm over the pooled pixels would normalise the images against each other, and fail on a single one."""
    aspp = ASPP(3, 4).train()
    x = torch.randn(1, 3, 4, 4)
    seen: list[torch.Tensor] = []
    aspp.mean.register_forward_hook(lambda module, inputs, output: seen.append(output))
    aspp(x)
    aspp(torch.cat([x, torch.randn(2, 3, 4, 4)]))
    torch.testing.assert_close(seen[1][:1], seen[0])

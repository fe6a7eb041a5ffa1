"""How much each channel of a RepVGG matters to what follows it, told from the weights alone."""

import torch
from torch import nn

from service.network.repvgg import Encoder, RepVGGBlock, repvgg_encoder
from service.training.repvgg_weights import _importance, _variance
from tests.network.as_if_trained import as_if_trained


def norms_of(block: RepVGGBlock) -> list[nn.BatchNorm2d]:
    return [norm for norm in (block.norm3x3, block.norm1x1, block.identity) if norm is not None]


def test_what_comes_through_a_relu_varies_as_much_as_normal_branches_that_know_nothing_of_each_other_show() -> None:
    block = as_if_trained(RepVGGBlock(8, 8))
    assert isinstance(block, RepVGGBlock)
    norms = norms_of(block)
    assert len(norms) == 3
    branches = [norm.bias + norm.weight * torch.randn(200_000, 8, dtype=torch.double) for norm in norms]
    shown = torch.stack(branches).sum(0).relu().var(0)
    torch.testing.assert_close(_variance(block), shown, rtol=0.03, atol=0.003)


def silent_encoder() -> Encoder:
    """Return an encoder of 2 stages, of 1 and 2 blocks; of each block the 3×3 branch alone speaks, from centres."""
    encoder = repvgg_encoder([1, 2], [2, 2])
    with torch.no_grad():
        for block in encoder.modules():
            if isinstance(block, RepVGGBlock):
                block.conv3x3.weight.zero_()
                block.conv3x3.weight[:, :, 1, 1] = 1
                for norm in norms_of(block):
                    norm.weight.zero_()
                block.norm3x3.weight.fill_(1)
    return encoder


def blocks_of(encoder: Encoder) -> list[RepVGGBlock]:
    return [block for block in encoder.modules() if isinstance(block, RepVGGBlock)]


def test_a_channel_counts_by_its_share_in_all_blocks_of_its_stage_not_in_the_first_alone() -> None:
    encoder = silent_encoder()
    last = blocks_of(encoder)[-1]
    with torch.no_grad():
        last.conv3x3.weight[:, 1] *= 0.5  # behind the first block, channel 1 is heard with a quarter of the square
        last.norm3x3.weight[1] = 3  # behind the second it varies nine times as much
    expected = (torch.tensor([0.8, 0.2]) + torch.tensor([0.1, 0.9])) / 2
    torch.testing.assert_close(_importance(encoder)[1], expected.double())


def test_one_strong_tap_carries_more_variance_than_many_weak_ones_of_a_larger_sum() -> None:
    encoder = silent_encoder()
    listener = blocks_of(encoder)[1]
    with torch.no_grad():
        listener.conv3x3.weight[:, 0, 1, 1] = 3
        listener.conv3x3.weight[:, 1, 1, :] = torch.tensor([1.0, 2.0, 1.0])
    torch.testing.assert_close(_importance(encoder)[0], torch.tensor([9.0, 6.0]).double() / 15)

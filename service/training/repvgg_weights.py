"""The weights of an official RepVGG training checkpoint, reduced to the network's channels.

The AL-Net paper starts from RepVGG-A1 trained on ImageNet and decreases its channels (§ 3.1) without saying how. Here
each stage keeps the channels that matter most to what follows them. All blocks of a stage keep the same ones, since
identity branches carry channels from block to block.

Importance is measured without images, from what the batch norms recorded of the training images. The output of each
branch's batch norm has mean β and variance γ². So the input of a channel's ReLU has mean Σβ and a variance of about Σγ²
(taking the branches as uncorrelated). The variance behind the ReLU follows from these (taking the sum as normal).
Multiplied by the squared norm of the weights with which the next block takes in the channel, it is the variance that
the channel passes on. The channel's share of the total is averaged over the blocks of the stage. The mean does not
count: the batch norms that follow absorb a constant. Behind the last block is the classifier, which is not ours; there
the variance alone counts.

RepVGG was trained on pixels normalised with ImageNet's mean and standard deviation; our networks see pixels normalised
with the training images' own. Both give the first convolution inputs of mean about 0 and spread about 1, to which it is
fitted, so the weights are left as they are. ImageNet's own values would shift, say, a red fundus image away from that.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from service.errors import BadConfig
from service.network.repvgg import Encoder, RepVGGBlock, repvgg_encoder
from service.training.tensor_file import checked_tensor, listed, tensor_like

KIND = "RepVGG training checkpoint"

COUNTER = "num_batches_tracked"
"""A counter that batch norms of PyTorch before 0.4.1, and some who publish weights, leave out."""

BRANCHES = {
    "conv3x3": "rbr_dense.conv",
    "norm3x3": "rbr_dense.bn",
    "conv1x1": "rbr_1x1.conv",
    "norm1x1": "rbr_1x1.bn",
    "identity": "rbr_identity",
}
"""A block's parts in our names and in those of the published code (github.com/DingXiaoH/RepVGG, repvgg.py)."""


def load_repvgg(encoder: Encoder, tensors: Mapping[str, Tensor], file: str) -> str:
    """Give `encoder`, whose blocks are all RepVGG's, the weights in `tensors`; return what was kept, as a clause.

    Keys are `stage0.rbr_dense.conv.weight` and so on; keys of anything but stages are ignored. Where the network has as
    many channels as the file, the encoder then computes exactly what the RepVGG computes; where it has fewer, the most
    important are kept, in their order.

    Raises:
        BadConfig: it is no RepVGG with the same blocks and at least as many channels. The encoder is unchanged.
    """
    full = _full_encoder(tensors, [len(stage) for stage in _blocks(encoder)], file)
    for stage, (wanted, there) in enumerate(zip(encoder.widths, full.widths, strict=True)):
        if wanted > there:
            raise BadConfig(f"{file} has {there} channels in stage {stage}, fewer than the network's {wanted}")
    importance = _importance(full)
    kept = [_most_important(scores, width) for scores, width in zip(importance, encoder.widths, strict=True)]
    encoder.load_state_dict(_reduced(full, kept))
    shares = [float(scores[keep].sum()) for scores, keep in zip(importance, kept, strict=True)]
    return (
        f"kept {listed(encoder.widths)} of {listed(full.widths)} channels, "
        f"which pass on {listed([round(100 * share) for share in shares])} % of the variance"
    )


def _blocks(encoder: Encoder) -> list[list[RepVGGBlock]]:
    return [[part for part in stage.children() if isinstance(part, RepVGGBlock)] for stage in encoder.stages]


def _full_encoder(tensors: Mapping[str, Tensor], counts: Sequence[int], file: str) -> Encoder:
    """Return the file's encoder with all its channels; `counts[i]` blocks are expected in stage i."""
    if any("rbr_reparam" in name for name in tensors):
        raise BadConfig(f"{file} is a RepVGG for deployment; encoder weights are the training checkpoint's")
    firsts = [_official_name(f"stages.{stage}.0.conv3x3.weight") for stage in range(len(counts))]
    widths = [len(checked_tensor(tensors, name, file, kind=KIND, dimensions=4)) for name in firsts]
    encoder = repvgg_encoder(counts, widths)
    weights = {
        name: tensor_like(ours, tensors, _official_name(name), file, kind=KIND)
        for name, ours in encoder.state_dict().items()
        if not (name.endswith(COUNTER) and _official_name(name) not in tensors)  # 0 then, and nothing uses it
    }
    known = {_official_name(name) for name in weights}
    if more := sorted(name for name in tensors if name.startswith("stage") and name not in known):
        raise BadConfig(f"{file} has {more[0]}: it is no RepVGG of {listed(counts)} blocks")
    encoder.load_state_dict(encoder.state_dict() | weights)
    return encoder


def _official_name(name: str) -> str:
    """Return the published code's name of a tensor of ours; there stage 0 is one block, the others are lists."""
    _, stage, block, branch, *rest = name.split(".")
    where = "stage0" if (stage, block) == ("0", "0") else f"stage{stage}.{block}"
    return ".".join([where, BRANCHES[branch], *rest])


def _importance(encoder: Encoder) -> list[Tensor]:
    """Return each channel's share of the variance that its stage passes on, float64, summing to 1 in each stage."""
    stages = _blocks(encoder)
    row = [block for stage in stages for block in stage]
    taken = [block.kernel_and_bias()[0].square().sum((0, 2, 3)) for block in row[1:]]
    taken.append(torch.ones_like(row[-1].norm3x3.weight))
    passed = [_variance(block) * weights for block, weights in zip(row, taken, strict=True)]
    shares = iter([variance / variance.sum().clamp(min=1e-300) for variance in passed])
    return [torch.stack(list(itertools.islice(shares, len(stage)))).mean(0) for stage in stages]


@torch.no_grad()
def _variance(block: RepVGGBlock) -> Tensor:
    """Return the variance of each channel behind the ReLU, taking the ReLU's input as normally distributed."""
    norms = [norm for norm in (block.norm3x3, block.norm1x1, block.identity) if norm is not None]
    mean = torch.stack([norm.bias.double() for norm in norms]).sum(0)
    spread = torch.stack([norm.weight.double().square() for norm in norms]).sum(0).sqrt().clamp(min=1e-12)
    below = torch.special.ndtr(mean / spread)
    density = torch.exp(-0.5 * (mean / spread).square()) / math.sqrt(2 * math.pi)
    first = mean * below + spread * density
    second = (mean.square() + spread.square()) * below + mean * spread * density
    variance: Tensor = (second - first.square()).clamp(min=0)
    return variance


def _most_important(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` highest scores, in ascending order."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values


def _reduced(full: Encoder, kept: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the state dict of `full` with the `kept` channels of each stage, and all three colours."""
    channels = [torch.arange(3), *kept]
    weights = {}
    for name, tensor in full.state_dict().items():
        _, stage, block, *_ = name.split(".")
        out = channels[int(stage) + 1]
        before = channels[int(stage)] if block == "0" else out
        reduced = tensor[out] if tensor.ndim else tensor
        weights[name] = reduced[:, before] if tensor.ndim == 4 else reduced
    return weights

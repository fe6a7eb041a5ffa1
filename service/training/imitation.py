"""An encoder learns to see as one that knows ImageNet does, from images alone.

Each of its stages learns to predict, through a 1×1 convolution, the features of the other encoder's stage on the same
grid (feature distillation: Romero et al., 2015, arXiv:1412.6550). So an encoder whose own ImageNet weights cannot be
had can begin with those of another.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import build
from service.network.efficientnet import KINDS
from service.network.normalise import Normalise
from service.network.repvgg import Encoder
from service.training.encoder_weights import OURS, load_encoder_weights
from service.training.tensor_file import read_tensors

PUBLISHED_MEAN, PUBLISHED_STD = 127 / 255, 128 / 255
"""How the published EfficientNet-Lites normalise pixels: (x - 127) / 128."""


class Model(nn.Module):
    """The encoder that is imitated. Pixels (N, 3, h, w) of 0 to 255 in; its stages' features, finest first, out.

    Each channel of the features has mean 0 and variance 1 over the batch: what matters is where they are high, not how
    high.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.normalise = Normalise([PUBLISHED_MEAN] * 3, [PUBLISHED_STD] * 3)
        self.eval()

    @classmethod
    def of(cls, file: Path) -> Self:
        """Return the EfficientNet-Lite whose weights are in `file`; which one it is shows in the weights.

        Raises:
            BadConfig: the file is none of `service.network.efficientnet.KINDS`; or is of a run of ours, which may know
                images that are not checked here; or it cannot be read.
        """
        if any(name.startswith(OURS) for name in read_tensors(file)):
            raise BadConfig(f"{file.name} is of a run of ours; give an EfficientNet-Lite as its authors published it")
        refused = []
        for kind in KINDS:
            network = build("al-net", encoder=kind)
            try:
                load_encoder_weights(network, file)
            except BadConfig as error:
                refused.append(str(error))
                continue
            return cls(_encoder(network))
        raise BadConfig(f"{file.name} is none of {', '.join(KINDS)}: {refused[-1]}")

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the features, float32."""
        features = self.encoder(self.normalise(pixels))
        return [F.batch_norm(stage.float(), None, None, training=True) for stage in features]


class Imitation(nn.Module):
    """The encoder that learns, and for each of its stages the 1×1 convolution that predicts the model's features."""

    def __init__(self, network: nn.Module, widths: Sequence[int]) -> None:
        """Take the encoder of `network`; `widths` are the channels of the model's stages.

        Raises:
            BadConfig: the network has no encoder with that many stages.
        """
        super().__init__()
        self.encoder = _encoder(network)
        if len(self.encoder.widths) != len(widths):
            raise BadConfig(f"an encoder of {len(self.encoder.widths)} stages cannot imitate one of {len(widths)}")
        self.tell = nn.ModuleList(
            nn.Conv2d(ours, theirs, 1) for ours, theirs in zip(self.encoder.widths, widths, strict=True)
        )

    def forward(self, images: Tensor, shown: Sequence[Tensor]) -> Tensor:
        """Return the mean squared error of each stage, float32 (stages,); 1 is what knowing nothing gives.

        `images` are normalised, (N, 3, h, w); `shown` are the model's features of the same images.
        """
        told = [tell(stage).float() for tell, stage in zip(self.tell, self.encoder(images), strict=True)]
        return torch.stack([F.mse_loss(ours, theirs) for ours, theirs in zip(told, shown, strict=True)])


def _encoder(network: nn.Module) -> Encoder:
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise BadConfig(f"a {type(network).__name__} has no encoder that could imitate another's")
    return encoder

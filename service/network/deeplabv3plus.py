"""DeepLabv3+: atrous spatial pyramid pooling, refined at a quarter of the image's size.

Chen, Zhu, Papandreou, Schroff and Adam, ECCV 2018, arXiv:1802.02611, Fig. 2, with ResNet-101 as encoder (§ 4.2).
"""

import torch
from torch import Tensor, nn

from service.network.aspp import ASPP
from service.network.convolution import ConvNormReLU
from service.network.resnet import resnet_encoder
from service.network.upsample import upsample


class DeepLabV3Plus(nn.Module):
    """Takes (N, 3, H, W), normalised; gives logits (N, 1, H, W). Any size from 1 × 1.

    The encoder's output stride is 16. In training form it has the 59.34 M parameters of the AL-Net paper's Table 5. No
    dropout and no multi-grid. Weights start as PyTorch's defaults; the authors' encoder starts from ImageNet's.

    Args:
        context: channels of the pyramid and of the decoder (§ 3.1: 256).
        detail: channels to which the encoder's features at 1/4 are reduced (Table 1: 48 is best).
    """

    def __init__(self, *, context: int = 256, detail: int = 48) -> None:
        super().__init__()
        self.encoder = resnet_encoder("resnet101", output_stride=16)
        self.context = ASPP(self.encoder.widths[-1], context, (6, 12, 18))
        self.detail = ConvNormReLU(self.encoder.widths[1], detail, 1)
        self.decoder = nn.Sequential(
            ConvNormReLU(context + detail, context, 3), ConvNormReLU(context, context, 3), nn.Conv2d(context, 1, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Join context and detail at 1/4 of the size, decode there, and bring the logits to the image's grid."""
        _, fine, _, _, coarsest = self.encoder(image)
        detail = self.detail(fine)
        context = upsample(self.context(coarsest), like=detail)
        return upsample(self.decoder(torch.cat([context, detail], 1)), like=image)

"""What training minimises: Dice + BCE (paper, Eqs. 4 to 6), and clDice beside them where something thin matters."""

import warnings

import torch
from torch import Tensor, nn

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.losses.cldice import SoftclDiceLoss
    from monai.losses.dice import DiceCELoss

from service.training.config import Config

SKELETON_STEPS = 5
"""Erosions down to a skeleton: as many as the widest thin structure has pixels on each side of its middle."""


def make_loss(config: Config) -> nn.Module:
    """Return the loss of logits and masks, both float32 (N, 1, h, w): Dice + BCE, Dice taken image by image.

    If `config.cl_dice` is above 0, this is mixed with clDice (Shit et al., CVPR 2021, Eq. 3).
    """
    dice_ce: nn.Module = DiceCELoss(sigmoid=True)
    return WithClDice(dice_ce, config.cl_dice, inverted=config.thin == "background") if config.cl_dice else dice_ce


class WithClDice(nn.Module):
    """(1 - weight) × another loss + weight × clDice of the foreground, or of the background if `inverted`."""

    def __init__(self, other: nn.Module, weight: float, *, inverted: bool) -> None:
        super().__init__()
        self.other, self.weight, self.inverted = other, weight, inverted
        self.cl_dice = SoftclDiceLoss(iter_=SKELETON_STEPS)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss, a number."""
        other: Tensor = self.other(logits, masks)
        thin, of_masks = (-logits, 1 - masks) if self.inverted else (logits, masks)
        cl_dice: Tensor = self.cl_dice(torch.sigmoid(thin), of_masks)
        return (1 - self.weight) * other + self.weight * cl_dice

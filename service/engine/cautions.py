"""What a caller should know about an answer that is given nevertheless."""

from dataclasses import dataclass

from service.imaging.share import UsualShare, percent
from service.store.card import Card

UNLIKE_IMAGES = "unlike_training_images"
UNLIKE_MASKS = "unlike_training_masks"


@dataclass(frozen=True, slots=True)
class Caution:
    """A code of CODES for programs, and a sentence for people."""

    code: str
    message: str


NOT_BINARY = Caution(
    "reference_not_binary",
    "the reference has other levels than 0 and one more: of two the higher was taken as true, of more those from half"
    " of the range up",
)
BOTH_EMPTY = Caution("both_masks_empty", "neither mask nor reference has any foreground: the measured IoU of 1 says so")
CODES = (UNLIKE_IMAGES, NOT_BINARY.code, UNLIKE_MASKS, BOTH_EMPTY.code)
"""All codes, in the order in which an answer that has them all lists them."""


def unlike_images(card: Card, times: float) -> Caution:
    """Say that an image is `times` as far from the training images as is usual at most."""
    message = f"this image is unlike the {card.modality} images of the training ({times:.1f} times their limit)"
    return Caution(UNLIKE_IMAGES, f"{message}: do not trust the mask")


def unlike_masks(card: Card, share: float, usual: UsualShare) -> Caution:
    """Say that a mask covers a `share` of the picture, 0 to 1, outside the `usual` range."""
    covered = f"the mask covers {percent(share)} of the picture"
    usually = f"masks like those of the {card.modality} training cover {percent(usual.least)} to {percent(usual.most)}"
    return Caution(UNLIKE_MASKS, f"{covered}, {usually}: do not trust it unseen")

"""What lies around a picture: a margin of one colour, or the dark outside of a round field of view. For training.

Dermoscopes leave black corners, exports paste pictures onto white or black pages; none of that is foreground.
"""

import warnings
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.transform import MapTransform, RandomizableTransform

LEAST_SHARE = 0.5
"""The smallest share of each side that a picture within margins takes up."""

RADII = (0.85, 1.3)
"""The radii of round fields of view, in half sides of the picture: 1 touches the sides, √2 leaves no corner dark."""

DARK = 40
"""The lightest level outside a field of view."""


class RandFramed(RandomizableTransform, MapTransform):
    """Puts an {"image", "mask"} item into a frame, with probability `prob`; half of the frames are round.

    The image is float (3, h, w) of 0 to 255, the mask float (1, h, w) of 0 and 1; both keep their sizes.
    """

    def __init__(self, prob: float) -> None:
        MapTransform.__init__(self, keys=("image", "mask"))
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return the item, framed or not."""
        item = dict(data)
        self.randomize(None)
        if self._do_transform:
            image, mask = (item[key].as_subclass(Tensor) for key in ("image", "mask"))
            item["image"], item["mask"] = self._round(image, mask) if self._drawn() < 0.5 else self._wide(image, mask)
        return item

    def _drawn(self, low: float = 0, high: float = 1) -> float:
        return float(self.R.uniform(low, high))

    def _wide(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return both smaller, somewhere on a page of one colour; the picture hardly changes its proportions."""
        share = self._drawn(LEAST_SHARE, 1)
        shares = [min(1, max(LEAST_SHARE, share * self._drawn(0.9, 1.1))) for _ in range(2)]
        sides = [max(1, round(side * part)) for side, part in zip(mask.shape[1:], shares, strict=True)]
        starts = [round(self._drawn() * (whole - side)) for whole, side in zip(mask.shape[1:], sides, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        page = self._colour(image).expand_as(image).clone()
        page[:, rows, columns] = F.interpolate(image[None], sides, mode="bilinear", antialias=True)[0]
        marked = torch.zeros_like(mask)
        marked[:, rows, columns] = F.interpolate(mask[None], sides, mode="nearest-exact")[0]
        return page, marked

    def _round(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as seen through a tube: dark outside an ellipse somewhere near the middle."""
        radius = self._drawn(*RADII)
        distances = [
            (torch.linspace(-1, 1, side) - self._drawn(-0.1, 0.1)) / (radius * self._drawn(0.95, 1.05))
            for side in mask.shape[1:]
        ]
        inside = distances[0][:, None] ** 2 + distances[1][None] ** 2 <= 1
        dark = torch.full((3, 1, 1), self._drawn(0, DARK))
        return torch.where(inside, image, dark), mask * inside

    def _colour(self, image: Tensor) -> Tensor:
        """Return a page's colour, float (3, 1, 1): the picture's own at its border, black, a grey, or any."""
        match int(self.R.randint(4)):
            case 0:
                border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
                return border.median(dim=1).values[:, None, None]
            case 1:
                return torch.full((3, 1, 1), self._drawn(0, DARK))
            case 2:
                return torch.full((3, 1, 1), self._drawn(0, 255))
            case _:
                return torch.tensor([self._drawn(0, 255) for _ in range(3)], dtype=torch.float32)[:, None, None]

"""What other cameras do to the same scene: less contrast, other saturation, noise, JPEG. Random, for training.

Contrast and noise are MONAI's transforms; it has none for saturation and JPEG.
"""

import io
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.intensity.dictionary import RandGaussianNoised, RandScaleIntensityFixedMeand
    from monai.transforms.transform import MapTransform, RandomizableTransform

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue when a colour image is turned grey (ITU-R BT.601)."""

CONTRAST = 0.6
NOISE_LEVELS = 25.0
LOST_QUALITY = 80
"""At full strength: by what share contrast may change, the largest standard deviation of the noise (of 255 levels), and
how many of JPEG's 100 steps of quality an image may lose."""


def random_cameras(strength: float) -> Sequence[Callable[..., Any]]:
    """Return MONAI's transforms of an {"image"} item: float (3, h, w) of 0 to 255; `strength` 0 to 1."""
    change = CONTRAST * strength
    return (
        RandScaleIntensityFixedMeand(keys="image", prob=0.5, factors=(-change, change)),
        RandSaturationd(prob=0.5, factors=(1 - strength, 1 + strength / 2)),
        RandGaussianNoised(keys="image", prob=0.5, std=NOISE_LEVELS * strength),
        RandJpegd(prob=0.4, quality=(round(100 - LOST_QUALITY * strength), 95)),
    )


class _RandImageTransform(RandomizableTransform, MapTransform):
    """Draws a number within `bounds` for each item and changes its "image" by it, with probability `prob`."""

    def __init__(self, prob: float, bounds: tuple[float, float]) -> None:
        MapTransform.__init__(self, keys="image")
        RandomizableTransform.__init__(self, prob)
        self._bounds = bounds

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return the item, its image changed or not."""
        item = dict(data)
        self.randomize(None)
        drawn = float(self.R.uniform(*self._bounds))
        if self._do_transform:
            item["image"] = self.changed(item["image"].as_subclass(Tensor), drawn)
        return item

    def changed(self, image: Tensor, drawn: float) -> Tensor:
        """Return the image, float (3, h, w), changed by the number drawn."""
        raise NotImplementedError


class RandSaturationd(_RandImageTransform):
    """Scales every pixel's distance from its grey: 0 leaves a grey image, 1 the image as it is."""

    def __init__(self, prob: float, factors: tuple[float, float]) -> None:
        super().__init__(prob, factors)

    def changed(self, image: Tensor, drawn: float) -> Tensor:
        """Return the image at saturation `drawn`."""
        grey: Tensor = torch.tensordot(torch.tensor(LUMA), image, dims=1)
        return grey + drawn * (image - grey)


class RandJpegd(_RandImageTransform):
    """Compresses as JPEG of a quality within `quality` (1 to 100), and back; values are first clipped to 0 to 255."""

    def __init__(self, prob: float, quality: tuple[float, float]) -> None:
        super().__init__(prob, quality)

    def changed(self, image: Tensor, drawn: float) -> Tensor:
        """Return the image after compression at quality `drawn`."""
        pixels = image.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return torch.from_numpy(jpeg(pixels, round(drawn)).astype(np.float32)).permute(2, 0, 1).contiguous()


def jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return `pixels`, uint8 (h, w, 3), after JPEG compression at `quality`, 1 to 100."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))

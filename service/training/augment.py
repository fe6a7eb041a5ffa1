"""From a source image to one training item: views, the network's grid, and random changes of place and light.

Every random choice comes from (seed, epoch, position), never from a global state. So an interrupted run goes on with
exactly the numbers of an undisturbed one, whatever the number of loading processes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

with warnings.catch_warnings():  # MONAI's own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import (
        RandAdjustContrastd,
        RandGaussianNoised,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )
    from monai.transforms.spatial.dictionary import Rand2DElasticd, RandAffined

from service.imaging.placement import Image, Mask, Placement, mask_to_canvas, place, to_canvas
from service.training.blur import random_blur
from service.training.cameras import random_cameras
from service.training.config import Config
from service.training.elastic import elastic
from service.training.frames import RandFramed
from service.training.hairs import RandHairsd
from service.training.shading import random_shading

VIEWS = 8
"""Each image counts eightfold: itself and its flips, horizontal, vertical and diagonal (paper, § 4.1)."""

Load = Callable[[int], tuple[Image, Mask]]


class TrainingItems(TorchDataset[tuple[Tensor, Tensor]]):
    """Items for a loader. A key is (epoch, position, index): what to draw, and the randomness to draw it with.

    `index` counts views: image index // 8 in view index % 8. An item is (image float32 (3, h, w) of 0 to 255, mask
    float32 (1, h, w) of 0 and 1); (h, w) is the crop, or the whole grid where the configuration has no crop.
    """

    def __init__(self, load: Load, images: int, config: Config) -> None:
        self._load, self._config, self._images = load, config, images
        self._change = random_changes(config)

    def __len__(self) -> int:
        return self._images * VIEWS

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Return the item; the same key gives the same item."""
        epoch, position, index = key
        random = np.random.default_rng([self._config.seed, epoch, position])
        image, mask = view(*self._load(index // VIEWS), index % VIEWS)
        placement = place(image, self._config.input)
        if self._config.zoom:
            placement = zoomed(placement, (1 + self._config.zoom) ** random.uniform(-1, 1))
        image, mask = to_canvas(image, placement), mask_to_canvas(mask, placement)
        image, mask = window(image, mask, self._config.input.grid, random)
        image, mask = shifted(image, mask, self._config.shift_px, int(random.integers(5)))
        return self._changed(image, mask, int(random.integers(2**31)))

    def _changed(self, image: Image, mask: Mask, seed: int) -> tuple[Tensor, Tensor]:
        item = {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float(),
            "mask": torch.from_numpy(mask[None].astype(np.float32)),
        }
        if self._change is not None:
            self._change.set_random_state(seed)
            item = self._change(item)
        pixels, target = (item[key].as_subclass(Tensor) for key in ("image", "mask"))  # MONAI hands back MetaTensors
        return pixels.clamp(0, 255), target


def view(image: Image, mask: Mask, number: int) -> tuple[Image, Mask]:
    """Return view 0 to 7: mirrored left-right if bit 0 is set, top-bottom if bit 1, along the diagonal if bit 2."""
    turns: Sequence[Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = (np.fliplr, np.flipud, _transpose)
    for bit, turn in enumerate(turns):
        if number >> bit & 1:
            image, mask = turn(image), turn(mask)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def zoomed(placement: Placement, times: float) -> Placement:
    """Return the placement of the image at `times` its size: on a canvas that grows with it, or centred on the same.

    It is resized from the source in one step, as if the camera were nearer or had more pixels.
    """
    (height, width), (rows, columns) = placement.scaled, placement.canvas
    scaled = max(1, round(height * times)), max(1, round(width * times))
    canvas = max(rows, scaled[0]), max(columns, scaled[1])
    top, left = (canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2
    return replace(placement, scaled=scaled, canvas=canvas, top=top, left=left)


def window(image: Image, mask: Mask, size: tuple[int, int], random: np.random.Generator) -> tuple[Image, Mask]:
    """Return a randomly placed window of `size` (height, width), or the whole canvas if it has exactly that size."""
    top = int(random.integers(mask.shape[0] - size[0] + 1))
    left = int(random.integers(mask.shape[1] - size[1] + 1))
    part = slice(top, top + size[0]), slice(left, left + size[1])
    return image[part], mask[part]


def shifted(image: Image, mask: Mask, px: int, direction: int) -> tuple[Image, Mask]:
    """Shift both by `px` up, down, left or right (1 to 4), or not (0); what is uncovered is filled by reflection."""
    up, down, left, right = (px if direction == side else 0 for side in (1, 2, 3, 4))
    if not px or not direction:
        return image, mask
    height, width = mask.shape

    def moved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sides = [(down, up), (right, left)] + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(pixels, sides, mode="symmetric")[up : up + height, left : left + width]

    return moved(image), moved(mask)


def random_changes(config: Config) -> Compose | None:
    """Return MONAI's transforms of an {"image", "mask"} item that the configuration asks for, or None if none."""
    changes: list[Callable[..., Any]] = []
    if config.crop_px is not None or config.scale or config.rotation_deg or config.elastic_px:
        changes.append(_random_place(config))
    if config.hairs:
        changes.append(RandHairsd(config.hairs))
    if config.frames:
        changes.append(RandFramed(config.frames))
    if config.blur_px:
        changes.append(random_blur(config.blur_px))
    if config.illumination:
        changes.append(random_shading(config.illumination))
    if config.colour:
        changes += _random_light(config.colour)
    if config.camera:
        changes += random_cameras(config.camera)
    return Compose(changes) if changes else None


def _random_place(config: Config) -> RandAffined | Rand2DElasticd:
    """Crop, zoom, rotate and deform in one resampling: the crop is a window moved at random over the canvas."""
    height, width = config.input.grid
    crop = config.crop_px or 0
    size = (min(crop, height), min(crop, width)) if crop else (height, width)
    place: dict[str, Any] = {
        "keys": ("image", "mask"),
        "prob": 1.0,
        "spatial_size": size,
        "translate_range": [(height - size[0]) / 2, (width - size[1]) / 2],
        "scale_range": [config.scale, config.scale],
        "rotate_range": float(np.deg2rad(config.rotation_deg)),
        "mode": ("bilinear", "nearest"),
        "padding_mode": "reflection",
    }
    if config.elastic_px:
        return elastic(config.elastic_px, **place)
    return RandAffined(cache_grid=False, **place)


def _random_light(strength: float) -> Sequence[Callable[..., Any]]:
    """Gain and offset of each channel on its own, one gamma for the whole image, noise; `strength` 0 to 1."""
    return (
        RandAdjustContrastd(keys="image", prob=0.5, gamma=(1 / (1 + 2 * strength), 1 + 2 * strength)),
        RandScaleIntensityd(keys="image", prob=0.5, factors=strength, channel_wise=True),
        RandShiftIntensityd(keys="image", prob=0.5, offsets=64 * strength, channel_wise=True),
        RandGaussianNoised(keys="image", prob=0.3, std=255 * strength / 10),
    )


def _transpose(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.swapaxes(0, 1)

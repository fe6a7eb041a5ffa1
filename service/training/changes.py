"""The same scene as another camera, clinic or framing would have shown it; the changes are fixed, not random.

They measure what a checkpoint tolerates (`alnet robustness`). The random changes of training are in `augment` and
`cameras`. Each takes and returns an image, uint8 (H, W, 3), and its mask, (H, W) with foreground above 0; a change of
framing or resolution changes both.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFilter

from service.imaging.placement import Image, Mask
from service.training.cameras import LUMA, jpeg
from service.training.hairs import hairs

Pair = tuple[Image, Mask]
Change = Callable[[Image, Mask], Pair]

MIDDLE = 128
HAIR = np.array((40, 30, 25), np.float32)


def as_it_is(image: Image, mask: Mask) -> Pair:
    """Return both unchanged: what the others are compared with."""
    return image, mask


def _closer(image: Image, mask: Mask, *, times: float) -> Pair:
    """Return the middle of the image, 1 / `times` of each side: a narrower field of view."""
    (height, width), (rows, columns) = mask.shape, (max(1, round(side / times)) for side in mask.shape)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = slice(top, top + rows), slice(left, left + columns)
    return image[part], mask[part]


def _margins(image: Image, mask: Mask, *, share: float) -> Pair:
    """Return the image within margins in the colour of its border; it takes up `share` of each side."""
    pads = [((round(side / share) - side) // 2, (round(side / share) - side + 1) // 2) for side in mask.shape]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colour = np.median(border, axis=0).astype(np.uint8)
    rows, columns = (before + side + after for side, (before, after) in zip(mask.shape, pads, strict=True))
    wider = np.broadcast_to(colour, (rows, columns, 3)).copy()
    inside = tuple(slice(before, before + side) for side, (before, _) in zip(mask.shape, pads, strict=True))
    wider[inside] = image
    return wider, np.pad(mask, pads)


def _resized(image: Image, mask: Mask, *, times: float) -> Pair:
    """Return both with `times` as many pixels along each side."""
    size = (max(1, round(mask.shape[1] * times)), max(1, round(mask.shape[0] * times)))
    pixels = np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.LANCZOS))
    shares = PillowImage.fromarray(np.where(mask > 0, np.uint8(255), np.uint8(0))).resize(
        size, PillowImage.Resampling.BILINEAR
    )
    return pixels, (np.asarray(shares) >= MIDDLE).astype(np.uint8)


def _light(image: Image, mask: Mask, *, of: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Pair:
    """Return the image with `of` applied to its values, rounded and clipped to 0 to 255."""
    return np.clip(np.round(of(image.astype(np.float32))), 0, 255).astype(np.uint8), mask


def _gains(red: float, green: float, blue: float) -> Change:
    gains = np.array([red, green, blue], np.float32)
    return partial(_light, of=lambda values: values * gains)


def _gamma(exponent: float) -> Change:
    levels = (255 * (np.arange(256) / 255) ** exponent).astype(np.float32)
    return partial(_light, of=lambda values: levels[values.astype(np.uint8)])


def _grey(values: NDArray[np.float32]) -> NDArray[np.float32]:
    luma = (values @ np.array(LUMA, np.float32))[..., None]
    return np.repeat(luma, 3, axis=-1)


def _shaded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values at half their brightness on the left, rising to 1.3 times on the right."""
    return values * np.linspace(0.5, 1.3, values.shape[1], dtype=np.float32)[None, :, None]


def _noisy(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values + np.random.default_rng(0).normal(0, 12, values.shape).astype(np.float32)


def _blurred(image: Image, mask: Mask) -> Pair:
    return np.asarray(PillowImage.fromarray(image).filter(ImageFilter.GaussianBlur(1.5))), mask


def _compressed(image: Image, mask: Mask) -> Pair:
    return jpeg(image, 30), mask


def _haired(image: Image, mask: Mask, *, count: int) -> Pair:
    """Return the image under `count` dark hairs."""
    height, width = mask.shape
    covered = hairs(np.random.default_rng(0), max(height, width), count)[:height, :width, None]
    return np.round(image + covered * (HAIR - image)).astype(np.uint8), mask


CHANGES: Mapping[str, Change] = {
    "as it is": as_it_is,
    "closer, 1.3 times": partial(_closer, times=1.3),
    "closer, 1.6 times": partial(_closer, times=1.6),
    "closer, 2 times": partial(_closer, times=2),
    "margins, 0.8 of each side": partial(_margins, share=0.8),
    "margins, 0.6 of each side": partial(_margins, share=0.6),
    "half the resolution": partial(_resized, times=0.5),
    "twice the resolution": partial(_resized, times=2),
    "gamma 0.6": _gamma(0.6),
    "gamma 1.6": _gamma(1.6),
    "contrast 0.6": partial(_light, of=lambda values: MIDDLE + 0.6 * (values - MIDDLE)),
    "dark, 0.6": _gains(0.6, 0.6, 0.6),
    "shaded from left to right": partial(_light, of=_shaded),
    "grey": partial(_light, of=_grey),
    "reddish": _gains(1.3, 0.9, 0.7),
    "greenish": _gains(0.8, 1.25, 0.9),
    "bluish": _gains(0.75, 1, 1.4),
    "noise of 12 levels": partial(_light, of=_noisy),
    "blurred by 1.5 px": _blurred,
    "JPEG of quality 30": _compressed,
}
"""The changes that are measured, by their names in tables."""

OWN_CHANGES: Mapping[str, Mapping[str, Change]] = {"skin": {"under 40 hairs": partial(_haired, count=40)}}
"""Changes that occur in images of one modality only."""


def changes_of(modality: str) -> Mapping[str, Change]:
    """Return the changes that are measured for a modality."""
    return {**CHANGES, **OWN_CHANGES.get(modality, {})}

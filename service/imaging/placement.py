"""How an image lies on the network's grid, and how the network's answer comes back to the image's own grid.

Training and serving share this code, so they can never differ. The order is always

    source  --trim-->  inside  --stretch levels, resize-->  scaled  --pad by reflection-->  canvas  --cut-->  tiles

and back: blend the tiles' maps on the canvas, crop the padding, resize to the inside, surround it with background.
Each tile has the size policy.grid. `fit` and `stretch` have one tile, the whole canvas; `tile` does not resize; a
policy that keeps margins does not trim; levels are stretched only if the image is dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.dim import Range, dim_range, in_full_range
from service.imaging.frame import inside_frame
from service.imaging.margins import WORTHWHILE, Box, inside_margins
from service.imaging.policy import InputPolicy

Image = NDArray[np.uint8]
"""(H, W, 3), RGB, 0 to 255."""

Mask = NDArray[np.uint8]
"""(H, W), 0 is background."""

Size = tuple[int, int]
"""(height, width), in pixels."""

LEAST_LEFT = 256
"""Least rows and columns that `thinned` leaves; a smaller image keeps all of its own."""

Corner = tuple[int, int]
"""(y, x) of a tile's top left pixel on the canvas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The sizes that an image has on its way to the network; all are (height, width) in pixels.

    `source` is the image's own size, `unframed` the part within a frame of one colour, `inside` the part within all
    margins. Both parts are the whole image if the policy keeps margins; `inside` also is if the margins are so narrow
    that cutting them off would only blur the image. `scaled` is the size of `inside` after resizing (unchanged for
    `tile`), `canvas` the size after padding; `top` and `left` are where the scaled part begins on the canvas. `levels`
    become 0 and 255; for a dim picture they are found within its margins, however narrow these are.
    """

    source: Size
    unframed: Box
    inside: Box
    scaled: Size
    canvas: Size
    top: int
    left: int
    levels: Range


def place(image: Image, policy: InputPolicy) -> Placement:
    """Return how an image, uint8 (H, W, 3) of at least one pixel, lies on the network's grid under `policy`."""
    frame, picture = _boxes(image, policy)
    inside = picture if _is_worthwhile(picture, image, policy) else _whole(image)
    scaled, canvas, corner = _sizes(inside[2:], policy)
    return Placement(
        source=(image.shape[0], image.shape[1]),
        unframed=frame,
        inside=inside,
        scaled=scaled,
        canvas=canvas,
        top=corner[0],
        left=corner[1],
        levels=dim_range(_part(image, picture), also_flat=policy.levels == "stretch"),
    )


def unframed(image: Image, placement: Placement) -> Image:
    """Return the image as it is judged: in full range, within its frame of one colour, with any dark margins.

    A frame says nothing about the picture.
    """
    return in_full_range(_part(image, placement.unframed), placement.levels)


def glimpse(image: Image, placement: Placement) -> Image:
    """Return some rows and columns of `unframed`, with the same descriptors: no copy of a large dim image is made."""
    return in_full_range(thinned(_part(image, placement.unframed)), placement.levels)


def thinned(image: Image) -> Image:
    """Return every nth row and mth column, at least 256 of each; thinning the result again changes nothing."""
    return image[:: max(1, image.shape[0] // LEAST_LEFT), :: max(1, image.shape[1] // LEAST_LEFT)]


def to_canvas(image: Image, placement: Placement) -> Image:
    """Stretch a dim image's levels, resize (bilinear, antialiased), pad by reflection: uint8 (H, W, 3) to (*canvas, 3).

    An image that already has the canvas's size and is not dim is unchanged, bit for bit.
    """
    picture = in_full_range(_part(image, placement.inside), placement.levels)
    return _padded(_resized(picture, placement.scaled, PillowImage.Resampling.BILINEAR), placement)


def mask_to_canvas(mask: Mask, placement: Placement) -> Mask:
    """Do to a mask, (H, W) to (*canvas), what `to_canvas` does to its image; nearest neighbour keeps its levels."""
    part = _part(mask, placement.inside)
    rows, columns = (_nearest(*sides) for sides in zip(part.shape, placement.scaled, strict=True))
    return _padded(part[rows[:, None], columns], placement)


def _nearest(pixels: int, wanted: int) -> NDArray[np.int64]:
    """Return, for each of `wanted` pixels spread over `pixels`, which of these is nearest to its centre.

    If two are equally near, as always where the size is halved, the later and the earlier one are taken in turns.
    Pillow always takes the later one: a network that learns from such masks sees everything half a pixel off.
    """
    number = np.arange(wanted, dtype=np.int64)
    nearest, rest = np.divmod((2 * number + 1) * pixels, 2 * wanted)
    return np.where((rest == 0) & (number % 2 == 1), nearest - 1, nearest)


def from_canvas(probability: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Crop the padding off a map, uint8 (*canvas), and bring it (bilinear) to its place on the source: uint8 (H, W).

    What was trimmed is background: 0.
    """
    height, width = placement.scaled
    cropped = probability[placement.top : placement.top + height, placement.left : placement.left + width]
    y, x, *size = placement.inside
    found = _resized(cropped, (size[0], size[1]), PillowImage.Resampling.BILINEAR)
    if found.shape == placement.source:
        return found
    whole = np.zeros(placement.source, np.uint8)
    whole[y : y + size[0], x : x + size[1]] = found
    return whole


def tiles(placement: Placement, policy: InputPolicy) -> list[Corner]:
    """Return the top left corners, row by row, of the windows of `policy.grid` that together cover the canvas.

    `fit` and `stretch` have one window, at (0, 0). `tile` has the fewest that overlap by at least `policy.overlap` in
    each direction, evenly spread.
    """
    rows, columns = (
        _starts(length, tile, policy.overlap) for length, tile in zip(placement.canvas, policy.grid, strict=True)
    )
    return [(y, x) for y in rows for x in columns]


def cut(canvas: Image, corners: Sequence[Corner], policy: InputPolicy) -> list[Image]:
    """Return one contiguous uint8 (*policy.grid, 3) array for each corner."""
    height, width = policy.grid
    return [np.ascontiguousarray(canvas[y : y + height, x : x + width]) for y, x in corners]


def blend(
    maps: Sequence[NDArray[np.uint8]], corners: Sequence[Corner], placement: Placement, policy: InputPolicy
) -> NDArray[np.uint8]:
    """Join the tiles' maps, each uint8 (*policy.grid), into one uint8 (*canvas): the mean, weighted by nearness.

    A tile's weight falls linearly from its middle to its edges, where it has seen the least context, and is never zero.
    The values of a single tile are copied bit for bit. Needs 4 bytes per canvas pixel besides the result.
    """
    if len(corners) == 1:
        return np.ascontiguousarray(maps[0])
    height, width = policy.grid
    row_weights = _weights([y for y, _ in corners], height, placement.canvas[0])
    column_weights = _weights([x for _, x in corners], width, placement.canvas[1])
    total = np.zeros(placement.canvas, np.float32)
    for tile, (y, x) in zip(maps, corners, strict=True):
        total[y : y + height, x : x + width] += tile * (row_weights[y][:, None] * column_weights[x])
    return np.rint(total, out=total).astype(np.uint8)


def prepare(image: Image, policy: InputPolicy) -> tuple[Placement, list[Image]]:
    """Return how `image`, uint8 (H, W, 3), is placed, and the tiles, each uint8 (*policy.grid, 3), for the engine."""
    placement = place(image, policy)
    return placement, cut(to_canvas(image, placement), tiles(placement, policy), policy)


def restore(maps: Sequence[NDArray[np.uint8]], placement: Placement, policy: InputPolicy) -> NDArray[np.uint8]:
    """Return one map on the source's grid, uint8 (H, W), from the maps of the tiles of `prepare`, in its order."""
    return from_canvas(blend(maps, tiles(placement, policy), placement, policy), placement)


def _boxes(image: Image, policy: InputPolicy) -> tuple[Box, Box]:
    """Return the parts of the image within its frame and within all its margins, as far as `policy` cuts them off."""
    if policy.margins == "keep":
        return _whole(image), _whole(image)
    top, left, _, _ = frame = inside_frame(image)
    if policy.margins == "plain":
        return frame, frame
    cut_anyway = frame if _is_worthwhile(frame, image, policy) else _whole(image)  # or both together, or neither
    y, x, height, width = inside_margins(_part(image, frame), cut_anyway[2:])
    return frame, (top + y, left + x, height, width)


def _is_worthwhile(box: Box, image: Image, policy: InputPolicy) -> bool:
    """Whether enough lies outside `box` to cut it off; if the policy does not resize, any amount is enough."""
    _, _, height, width = box
    return policy.kind == "tile" or min(height / image.shape[0], width / image.shape[1]) <= WORTHWHILE


def _whole(image: Image) -> Box:
    return 0, 0, image.shape[0], image.shape[1]


def _sizes(inside: Size, policy: InputPolicy) -> tuple[Size, Size, Corner]:
    """Return the sizes after resizing and after padding, and where on the canvas the scaled part begins."""
    if policy.kind == "fit":
        scaled = _fitted(inside, (policy.height, policy.width))
        return scaled, policy.grid, ((policy.grid[0] - scaled[0]) // 2, (policy.grid[1] - scaled[1]) // 2)
    if policy.kind == "stretch":
        return policy.grid, policy.grid, (0, 0)
    return inside, (max(inside[0], policy.height), max(inside[1], policy.width)), (0, 0)


def _part(pixels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    y, x, height, width = box
    return pixels[y : y + height, x : x + width]


def _fitted(size: Size, box: Size) -> Size:
    """Return the largest size of the same aspect that fits `box`, sides at least 1; integers are rounded exactly."""
    (height, width), (box_height, box_width) = size, box
    if height * box_width <= width * box_height:
        return max(1, (2 * height * box_width + width) // (2 * width)), box_width
    return box_height, max(1, (2 * width * box_height + height) // (2 * height))


def _resized(pixels: NDArray[np.uint8], size: Size, resampling: PillowImage.Resampling) -> NDArray[np.uint8]:
    """Resize uint8 (H, W) or (H, W, 3); an array that already has `size` is returned as it is."""
    if pixels.shape[:2] == size:
        return pixels
    resized = PillowImage.fromarray(np.ascontiguousarray(pixels)).resize((size[1], size[0]), resampling)
    return np.array(resized, np.uint8)


def _padded(scaled: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Pad by reflection, edge pixels repeated (so that one pixel suffices), as often as it takes to fill the canvas."""
    if placement.scaled == placement.canvas:
        return scaled
    starts = (placement.top, placement.left)
    margins = [
        (start, canvas - length - start)
        for start, length, canvas in zip(starts, placement.scaled, placement.canvas, strict=True)
    ]
    return np.pad(scaled, margins + [(0, 0)] * (scaled.ndim - 2), mode="symmetric")


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin: the fewest, evenly spread, that cover `length` and overlap by at least `overlap`."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [index * (length - tile) // (count - 1) for index in range(count)]


def _weights(starts: Sequence[int], tile: int, length: int) -> dict[int, NDArray[np.float32]]:
    """Return each start's weights, float32 (tile,): a triangle, scaled so that the weights at each place sum to one."""
    places = np.arange(tile)
    triangle = np.minimum(places + 1, tile - places).astype(np.float64)
    total = np.zeros(length)
    for start in set(starts):
        total[start : start + tile] += triangle
    return {start: (triangle / total[start : start + tile]).astype(np.float32) for start in set(starts)}

"""How an upload reaches the network's grid: one of three ways, recorded in the checkpoint's card."""

from dataclasses import dataclass
from typing import Literal

from service.errors import BadConfig

Margins = Literal["keep", "plain", "trim"]
Levels = Literal["lighten", "stretch"]

STRIDE = 32
"""The encoder's coarsest stride: a network's grid is a multiple of it."""


MOST_PIXELS = 2048 * 2048
"""Most pixels of a grid: ten times the largest that ships. One image of it takes AL-Net 3 GB of memory on a CPU."""

MOST_SIDE = 4096
"""Longest side of a grid, in pixels: up-sampling as a product needs a matrix with a row for each pixel of a side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPolicy:
    """`fit`, `stretch` or `tile`, with the sizes that it needs (all in pixels).

    - `fit`: scale so that the image fits `height` × `width`, keeping its aspect, then pad by reflection to the grid.
    - `stretch`: resize to `height` × `width`, whatever the aspect.
    - `tile`: keep the resolution; cut tiles of `height` × `width` that overlap by at least `overlap` and blend their
      answers. An image smaller than a tile is padded by reflection.

    With `margins` "plain", a frame of one colour around the picture is first cut off, and is background in the answer.
    The picture then has the same size on the grid, however wide the frame is. With "trim", dark margins, such as those
    of a fundus camera, are cut off as well.

    A dark picture is made lighter, so that it fills the range of levels. With `levels` "stretch", for pictures in which
    only contrast has a meaning, a flat picture is also stretched to the whole range.

    Raises:
        BadConfig: a size is below 1, `overlap` is negative or not smaller than half a tile, a `stretch` or `tile` grid
            is not a multiple of 32, or the grid has more than `MOST_PIXELS` or a side longer than `MOST_SIDE`.
    """

    kind: Literal["fit", "stretch", "tile"]
    height: int
    width: int
    overlap: int = 0
    margins: Margins = "keep"
    levels: Levels = "lighten"

    def __post_init__(self) -> None:
        """Check the sizes against each other."""
        if min(self.height, self.width) < 1 or self.overlap < 0:
            sizes = f"{self.height} × {self.width} with an overlap of {self.overlap}"
            raise BadConfig(f"input sizes must be positive, and an overlap 0 or more, not {sizes}")
        if self.kind != "fit" and (self.height % STRIDE or self.width % STRIDE):
            raise BadConfig(f"a {self.kind} grid must be a multiple of {STRIDE}: {self.height} × {self.width}")
        if 2 * self.overlap >= min(self.height, self.width):
            raise BadConfig(f"overlap {self.overlap} must be smaller than half a tile of {self.height} × {self.width}")
        height, width = self.grid
        if height * width > MOST_PIXELS or max(height, width) > MOST_SIDE:
            most = f"{MOST_PIXELS} pixels, and {MOST_SIDE} a side"
            raise BadConfig(f"a grid of {height} × {width} is too large; there may be {most}")

    @property
    def grid(self) -> tuple[int, int]:
        """The (height, width) of every array that the network sees under this policy: multiples of 32."""
        return -(-self.height // STRIDE) * STRIDE, -(-self.width // STRIDE) * STRIDE

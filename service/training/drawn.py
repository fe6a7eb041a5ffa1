"""Medical-looking images that the code draws, with exact masks: for tests, demos and newcomers without a data set.

They have the difficulties of the real ones: thin, faint vessels; organelles as dark as the membranes around them; hairs
and a ruler over a lesion.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.imaging.placement import Image, Mask
from service.training.drawing.brush import Picture
from service.training.drawing.cell import draw_cells
from service.training.drawing.retina import draw_retina
from service.training.drawing.skin import draw_skin

Kind = Literal["retina", "cell", "skin"]

_SUBJECTS: dict[Kind, Callable[[np.random.Generator, int], tuple[Picture, NDArray[np.bool_]]]] = {
    "retina": draw_retina,
    "cell": draw_cells,
    "skin": draw_skin,
}


def draw(kind: Kind, index: int, *, size: int = 256, seed: int = 0) -> tuple[Image, Mask]:
    """Return drawing number `index` of a kind and its mask; the same arguments give the same drawing.

    The image is uint8 (size, size, 3), RGB, 0 to 255; the mask uint8 (size, size), 1 for vessels (retina), the inside
    of cells (cell) or the lesion (skin), else 0.
    """
    rng = np.random.default_rng([seed, index, list(_SUBJECTS).index(kind)])
    picture, mask = _SUBJECTS[kind](rng, size)
    return np.clip(picture, 0, 255).round().astype(np.uint8), mask.astype(np.uint8)

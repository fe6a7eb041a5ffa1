"""Images so alike that one on each side of a split would be a leak: one lesion photographed, cropped or coloured twice.

Brightness and colour are no guide: re-processed copies differ in both, and different images of one kind agree in both.
What copies share is detail. So images are compared by their detail: small, grey, band-passed, with the same contrast
everywhere. In place, every image is compared with every other. Moved, zoomed, turned and mirrored, each is compared
with the few whose spectra are most like its own, since the strength of a spectrum does not change when things move.

The limits were set by looking at ISIC 2018. Among 2,394 images 46 pairs were seen to be one lesion twice. 45 of them
are found, along with as many pairs of small round moles on bare skin, which fall into one group of 27. In turned poses,
true pairs have a correlation of 0.90 and more, others 0.83 and less. In STARE, im0235 and im0236 are one eye (0.78; the
next pair has 0.59).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.imaging.placement import Image
from service.training.dataset import load_image
from service.training.pairs import Pair

ALIKE, ALIKE_TURNED = 0.74, 0.85
"""Correlations of detail from which two images count as one, upright and in any other pose."""

SIDE = 64
LARGEST_SHIFT = 10
"""How far two images of `SIDE` may be moved against each other, in pixels."""

ZOOM_STEP, ZOOM_STEPS, ZOOM_STEPS_TURNED = 1.06, 3, 1
"""The factor of one zoom step, and by how many steps images are magnified and reduced: upright, and in other poses."""

NEIGHBOURS = 2
"""How many others each image is compared with closely, for each zoom and pose."""

FREQUENCIES = 8
"""How many of the lowest frequencies along a side are used to compare a spectrum with all others."""

CHUNK = 256

Stack = NDArray[np.float32]
"""(n, side, side): one small grey image each."""

Spectra = NDArray[np.complex64]
"""(n, side, side / 2 + 1): the real Fourier transforms of a stack."""

Indices = NDArray[np.intp]


def near_duplicates(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return the names of every two pairs whose images are found alike. Reads every image once.

    Raises:
        BadDataset: an image cannot be read.
    """
    small = np.stack([_shrink(load_image(pair)) for pair in pairs])
    found = itertools.chain(_the_same(small), _alike_in_place(small), _alike_when_moved(small))
    links = {(min(i, j), max(i, j)) for i, j in found}
    return [(pairs[i].name, pairs[j].name) for i, j in sorted(links)]


def _shrink(image: Image) -> NDArray[np.float32]:
    grey = PillowImage.fromarray(image).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), PillowImage.Resampling.BOX), np.float32)


def _the_same(small: Stack) -> Iterator[tuple[int, int]]:
    """Yield each image that equals an earlier one, with the first of them: flat images have no detail to compare."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(small):
        if (known := first.setdefault(image.tobytes(), index)) != index:
            yield known, index


def _alike_in_place(small: Stack) -> Iterator[tuple[int, int]]:
    detail = _detail(small).reshape(len(small), -1)
    for start in range(0, len(detail), CHUNK):
        one, other = np.nonzero(detail[start : start + CHUNK] @ detail.T >= ALIKE)
        yield from ((start + int(i), int(j)) for i, j in zip(one, other, strict=True) if start + i < j)


def _alike_when_moved(small: Stack) -> Iterator[tuple[int, int]]:
    spectra = _spectra(_detail(small))
    for step in range(-ZOOM_STEPS, ZOOM_STEPS + 1):
        detail = _detail(_apply(_zoom_matrix(ZOOM_STEP**step), small))
        for pose in POSES if abs(step) <= ZOOM_STEPS_TURNED else (UPRIGHT,):
            posed = _spectra(pose(detail))
            one, other = _neighbours(spectra, posed)
            found = _best_correlation(spectra, posed, one, other) >= (ALIKE if pose is UPRIGHT else ALIKE_TURNED)
            yield from zip(one[found].tolist(), other[found].tolist(), strict=True)


def _turn(quarters: int, mirror: bool) -> Callable[[Stack], Stack]:
    def pose(stack: Stack) -> Stack:
        turned = np.rot90(stack, quarters, (1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if mirror else turned)

    return pose


POSES = tuple(_turn(quarters, mirror) for mirror in (False, True) for quarters in range(4))
"""The eight ways to lay a square down."""

UPRIGHT = POSES[0]


def _neighbours(spectra: Spectra, posed: Spectra) -> tuple[Indices, Indices]:
    """Return two columns: each image, and those whose coarse detail is most like its own, wherever that detail lies."""
    signatures, others = _signatures(spectra), _signatures(posed)
    count = min(NEIGHBOURS, len(others) - 1)
    columns = []
    for start in range(0, len(signatures), CHUNK):
        likeness = signatures[start : start + CHUNK] @ others.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -1  # not with itself
        columns.append(np.argsort(-likeness, axis=1)[:, :count])
    other = np.concatenate(columns)
    return np.repeat(np.arange(len(other)), count), other.ravel()


def _signatures(spectra: Spectra) -> NDArray[np.float32]:
    """Return one row for each image: how strong its long waves are, which does not depend on where things lie."""
    strength = np.abs(spectra)
    downwards, upwards = strength[:, :FREQUENCIES, :FREQUENCIES], strength[:, 1 - FREQUENCIES :, :FREQUENCIES]
    return _unit(np.concatenate([downwards, upwards], axis=1)).reshape(len(spectra), -1)


def _detail(small: Stack) -> Stack:
    """Return the detail between fine grain and broad shading, at equal contrast everywhere, fading at the edges."""
    band = _apply(_blur_matrix(1), small) - _apply(_blur_matrix(3), small)
    band /= np.sqrt(_apply(_blur_matrix(4), band * band) + 0.1)
    fade = np.sqrt(np.hanning(SIDE + 2)[1:-1]).astype(np.float32)
    return _unit(band * np.outer(fade, fade))


def _unit(stack: Stack) -> Stack:
    """Return the images with mean 0 and norm 1, so that their products are correlations. Flat ones become 0."""
    centred = stack - stack.mean((1, 2), keepdims=True)
    unit: Stack = centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-3)
    return unit


def _spectra(stack: Stack) -> Spectra:
    return np.fft.rfft2(stack).astype(np.complex64, copy=False)


def _best_correlation(spectra: Spectra, others: Spectra, one: Indices, other: Indices) -> NDArray[np.float32]:
    """Return the highest correlation of each pair of images over all shifts up to `LARGEST_SHIFT`."""
    reach = np.arange(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
    best = np.empty(len(one), np.float32)
    for start in range(0, len(one), CHUNK):
        part = slice(start, start + CHUNK)
        product = spectra[one[part]].conj() * others[other[part]]
        best[part] = np.fft.irfft2(product, s=(SIDE, SIDE))[:, reach[:, None], reach].max((1, 2))
    return best


def _apply(matrix: NDArray[np.float32], stack: Stack) -> Stack:
    """Apply a one-dimensional filter along both sides."""
    filtered: Stack = np.matmul(matrix @ stack, matrix.T).astype(np.float32, copy=False)
    return filtered


def _blur_matrix(sigma: float) -> NDArray[np.float32]:
    place = np.arange(SIDE)
    weights = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    matrix: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def _zoom_matrix(zoom: float) -> NDArray[np.float32]:
    """Magnify about the middle, by linear interpolation; what comes in from outside repeats the edge."""
    place, middle = np.arange(SIDE), (SIDE - 1) / 2
    source = np.clip(middle + (place - middle) / zoom, 0, SIDE - 1)
    matrix: NDArray[np.float32] = np.maximum(0, 1 - np.abs(source[:, None] - place)).astype(np.float32)
    return matrix

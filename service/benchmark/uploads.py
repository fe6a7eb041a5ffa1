"""Uploads to measure with: the files of a folder as they are, or images drawn in the size and format usual for them."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image as PillowImage

from service.errors import BadParameter
from service.training.drawn import Kind, draw

MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".dcm": "application/dicom",
    ".jfif": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".pbm": "image/x-portable-pixmap",
    ".pfm": "image/x-portable-pixmap",
    ".pgm": "image/x-portable-pixmap",
    ".png": "image/png",
    ".pnm": "image/x-portable-pixmap",
    ".ppm": "image/x-portable-pixmap",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
"""By the ending of a file's name, in lower case; files with other endings, and hidden ones, are not uploads."""


@dataclass(frozen=True, slots=True)
class Body:
    """One upload as it is sent: the bytes of a file, and their media type."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class _Format:
    """Height and width in pixels, whether in colour, and the file format by Pillow's name."""

    height: int
    width: int
    mode: str
    name: str
    media_type: str


_FORMATS: dict[Kind, _Format] = {
    "retina": _Format(605, 700, "RGB", "PNG", "image/png"),  # as STARE
    "cell": _Format(512, 512, "L", "PNG", "image/png"),  # as ISBI 2012
    "skin": _Format(767, 1022, "RGB", "JPEG", "image/jpeg"),  # as most of ISIC 2018
}


def read_uploads(folder: Path) -> list[Body]:
    """Return the images of a folder, byte for byte, in the order of their names.

    Raises:
        BadParameter: the folder has no file with the ending of an image.
        OSError: the folder or one of the files cannot be read.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in MEDIA_TYPES and path.name[0] != "." and path.is_file()
    )
    if not files:
        raise BadParameter(f"{folder} has no images; they end in {', '.join(MEDIA_TYPES)}")
    return [Body(path.read_bytes(), MEDIA_TYPES[path.suffix.lower()]) for path in files]


def draw_uploads(modality: str, count: int, *, seed: int = 0) -> list[Body]:
    """Return `count` drawn images of a modality, encoded; the same arguments give the same bytes.

    Raises:
        BadParameter: the code draws no images of that modality.
    """
    for kind in get_args(Kind):
        if kind == modality:
            return [_encode(kind, index, seed) for index in range(count)]
    known = ", ".join(get_args(Kind))
    raise BadParameter(f"there are drawn images of {known}, none of {modality}; give a folder of images")


def _encode(kind: Kind, index: int, seed: int) -> Body:
    wanted = _FORMATS[kind]
    square, _ = draw(kind, index, size=max(wanted.height, wanted.width), seed=seed)
    top, left = (square.shape[0] - wanted.height) // 2, (square.shape[1] - wanted.width) // 2
    cropped = np.ascontiguousarray(square[top : top + wanted.height, left : left + wanted.width])
    buffer = io.BytesIO()
    PillowImage.fromarray(cropped).convert(wanted.mode).save(buffer, wanted.name)
    return Body(buffer.getvalue(), wanted.media_type)

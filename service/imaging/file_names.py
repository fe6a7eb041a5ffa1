"""Suffixes of pictures' file names. The bytes decide what a picture is, but folders are searched by name."""

from collections import Counter
from pathlib import Path

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
)
"""Suffixes of the formats that are read, in small letters."""

UNREAD_SUFFIXES = frozenset({".dcm", ".gif", ".webp", ".jp2", ".avif", ".heic", ".nii", ".npy", ".mha", ".svs", ".czi"})
"""Suffixes of pictures in formats that are not read."""


def unpacked(path: Path) -> Path:
    """Return the path without a `.gz` at its end, so that its suffix is the format's."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def unread_pictures(folder: Path) -> dict[str, int]:
    """Return how many files in `folder` have each of UNREAD_SUFFIXES, in their order; hidden files do not count."""
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    counts = Counter(unpacked(path).suffix.lower() for path in files)
    return {suffix: counts[suffix] for suffix in sorted(counts.keys() & UNREAD_SUFFIXES)}

"""Suffixes of pictures' file names. The bytes decide what a picture is, but folders are searched by name."""

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
)
"""Suffixes of the formats that are read, in small letters."""

UNREAD_SUFFIXES = frozenset({".dcm", ".gif", ".webp", ".jp2", ".avif", ".heic", ".nii", ".npy", ".mha", ".svs", ".czi"})
"""Suffixes of pictures in formats that are not read."""

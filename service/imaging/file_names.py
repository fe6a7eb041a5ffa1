"""What the names of pictures' files end in. The bytes decide what a picture is, but folders are searched by names."""

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
)
"""Of the formats that are read, in small letters."""

UNREAD_SUFFIXES = frozenset({".dcm", ".gif", ".webp", ".jp2", ".avif", ".heic", ".nii", ".npy", ".mha", ".svs", ".czi"})
"""Of pictures in formats that are not read."""

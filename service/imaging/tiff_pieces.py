"""Where the strips or tiles of a TIFF lie, by the tags that Pillow has read."""

from collections.abc import Iterator

from PIL.TiffImagePlugin import STRIPBYTECOUNTS, STRIPOFFSETS, TILEBYTECOUNTS, TILEOFFSETS, TiffImageFile


def pieces(image: TiffImageFile) -> Iterator[tuple[int, int]]:
    """Yield where in the file each strip or tile begins and ends; skip those without an offset or a length."""
    tags = image.tag_v2
    offsets = tags.get(STRIPOFFSETS) or tags.get(TILEOFFSETS) or ()
    lengths = tags.get(STRIPBYTECOUNTS) or tags.get(TILEBYTECOUNTS) or ()
    for start, length in zip(offsets, lengths, strict=False):  # if one list is short, libtiff fails or guesses the rest
        yield start, start + length

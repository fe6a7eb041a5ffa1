"""Where the strips or tiles of a TIFF lie, by the tags that Pillow has read."""

from collections.abc import Iterator

from PIL.TiffImagePlugin import STRIPBYTECOUNTS, STRIPOFFSETS, TILEBYTECOUNTS, TILEOFFSETS, TiffImageFile


def pieces(image: TiffImageFile) -> Iterator[tuple[int, int]]:
    """Yield where in the file each strip or tile begins and ends; of some that are told by halves, none."""
    tags = image.tag_v2
    offsets = tags.get(STRIPOFFSETS) or tags.get(TILEOFFSETS) or ()
    lengths = tags.get(STRIPBYTECOUNTS) or tags.get(TILEBYTECOUNTS) or ()
    for start, length in zip(offsets, lengths, strict=False):  # of too few libtiff makes an error, or guesses the rest
        yield start, start + length

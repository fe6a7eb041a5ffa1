"""Mend what Pillow misreads in a BMP: it tells how wide its indices are from the colours that they stand for.

A table of black and white it takes for a picture of 1 bit a pixel, and one of greys in their order for one of 8 bits,
whatever the file says. A mask of 8 bits with two colours comes as black, and other greys of 4 bits as damage. The one
bit of alpha that may lie beside colours of 5 bits it passes over.
"""

import io

from PIL import BmpImagePlugin, ImagePalette

_HEADER_AT, _OS2_HEADER_BYTES = 14, 12
_BITS_AT, _OS2_BITS_AT = 28, 24

_COMPRESSION_AT, _BIT_FIELDS = 30, 3
_ALPHA_AT, _LEAST_ALPHA_HEADER_BYTES = 66, 56
"""Where the header tells which bits are alpha, and how long one is that does."""

_FIVE_BITS, _FIVE_BITS_AND_ALPHA, _ALPHA_BIT = "BGR;15", "BGRA;15", 1 << 15
"""Pillow's names for colours of 5 bits, and the bit that is left over."""

_TOLD_BY_MODE = {"1": 1, "L": 8}
"""How many bits a pixel Pillow reads where it has left the table of colours out."""

_INDICES = {1: "P;1", 4: "P;4", 8: "P"}
"""Pillow's names for rows of indices, by their bits."""

_BLACK_AND_WHITE, _ALL_GREYS = bytes([0, 255]), bytes(range(256))


class BmpAsStored(BmpImagePlugin.BmpImageFile):
    """A BMP whose pixels have as many bits as its header says; Pillow's own errors are raised for a broken one."""

    def __init__(self, upload: bytes) -> None:
        self._bits, self._alpha = _bits(upload), _alpha(upload)
        super().__init__(io.BytesIO(upload))

    def _open(self) -> None:
        super()._open()
        (tile,) = self.tile
        name, *rest = tuple[object, ...](tile.args or ())
        if name == _FIVE_BITS and self._alpha == _ALPHA_BIT:
            self._mode = "RGBA"
            self.tile = [tile._replace(args=(_FIVE_BITS_AND_ALPHA, *rest))]
        if tile.codec_name != "raw" or _TOLD_BY_MODE.get(self.mode, self._bits) == self._bits:
            return
        greys = _BLACK_AND_WHITE if self.mode == "1" else _ALL_GREYS
        self._mode = "P"
        self.palette = ImagePalette.raw("RGB", bytes(level for level in greys for _ in range(3)))
        self.tile = [tile._replace(args=(_INDICES[self._bits], *rest))]


def _alpha(upload: bytes) -> int:
    """Return which bits of a pixel are alpha, 0 if the header does not say."""
    if _number(upload, _HEADER_AT, 4) < _LEAST_ALPHA_HEADER_BYTES or _number(upload, _COMPRESSION_AT, 4) != _BIT_FIELDS:
        return 0
    return _number(upload, _ALPHA_AT, 4)


def _bits(upload: bytes) -> int:
    """Return the bits a pixel, 0 of a header that is cut short."""
    is_os2 = _number(upload, _HEADER_AT, 4) == _OS2_HEADER_BYTES
    return _number(upload, _OS2_BITS_AT if is_os2 else _BITS_AT, 2)


def _number(upload: bytes, at: int, size: int) -> int:
    return int.from_bytes(upload[at : at + size], "little")

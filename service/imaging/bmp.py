"""Mend what Pillow misreads in a BMP: it guesses the width of palette indices from the palette.

Whatever the file says, Pillow takes a palette of black and white for a picture of 1 bit a pixel, and one of greys in
their order for one of 8 bits. So a mask of 8 bits with two colours comes as black, and other greys of 4 bits come as
damage. Pillow also ignores the one bit of alpha that may lie beside colours of 5 bits.
"""

import io

from PIL import BmpImagePlugin, ImagePalette

_HEADER_AT, _OS2_HEADER_BYTES = 14, 12
_BITS_AT, _OS2_BITS_AT = 28, 24

_COMPRESSION_AT, _BIT_FIELDS = 30, 3
_ALPHA_AT, _LEAST_ALPHA_HEADER_BYTES = 66, 56
"""Where the header says which bits are alpha, and the length from which a header does so."""

_FIVE_BITS, _FIVE_BITS_AND_ALPHA, _ALPHA_BIT = "BGR;15", "BGRA;15", 1 << 15
"""Pillow's names for colours of 5 bits without and with alpha, and the bit that is left over for it."""

_TOLD_BY_MODE = {"1": 1, "L": 8}
"""How many bits a pixel Pillow reads, by mode, where it has dropped the palette."""

_INDICES = {1: "P;1", 4: "P;4", 8: "P"}
"""Pillow's names for rows of indices, by bits per index."""

_BLACK_AND_WHITE, _ALL_GREYS = bytes([0, 255]), bytes(range(256))


class BmpAsStored(BmpImagePlugin.BmpImageFile):
    """A BMP whose pixels have as many bits as its header says; a broken one raises Pillow's own errors."""

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
    """Return a mask of a pixel's alpha bits; 0 if the header does not say."""
    if _number(upload, _HEADER_AT, 4) < _LEAST_ALPHA_HEADER_BYTES or _number(upload, _COMPRESSION_AT, 4) != _BIT_FIELDS:
        return 0
    return _number(upload, _ALPHA_AT, 4)


def _bits(upload: bytes) -> int:
    """Return the bits per pixel; 0 if the header is cut short."""
    is_os2 = _number(upload, _HEADER_AT, 4) == _OS2_HEADER_BYTES
    return _number(upload, _OS2_BITS_AT if is_os2 else _BITS_AT, 2)


def _number(upload: bytes, at: int, size: int) -> int:
    return int.from_bytes(upload[at : at + size], "little")

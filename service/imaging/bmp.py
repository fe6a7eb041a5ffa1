"""Mend what Pillow misreads in a BMP: it tells how wide its indices are from the colours that they stand for.

A table of black and white it takes for a picture of 1 bit a pixel, and one of greys in their order for one of 8 bits,
whatever the file says. A mask of 8 bits with two colours comes as black, and other greys of 4 bits as damage.
"""

import io

from PIL import BmpImagePlugin, ImagePalette

_HEADER_AT, _OS2_HEADER_BYTES = 14, 12
_BITS_AT, _OS2_BITS_AT = 28, 24

_TOLD_BY_MODE = {"1": 1, "L": 8}
"""How many bits a pixel Pillow reads where it has left the table of colours out."""

_INDICES = {1: "P;1", 4: "P;4", 8: "P"}
"""Pillow's names for rows of indices, by their bits."""

_BLACK_AND_WHITE, _ALL_GREYS = bytes([0, 255]), bytes(range(256))


class BmpAsStored(BmpImagePlugin.BmpImageFile):
    """A BMP whose pixels have as many bits as its header says; Pillow's own errors are raised for a broken one."""

    def __init__(self, upload: bytes) -> None:
        self._bits = _bits(upload)
        super().__init__(io.BytesIO(upload))

    def _open(self) -> None:
        super()._open()
        (tile,) = self.tile
        if tile.codec_name != "raw" or _TOLD_BY_MODE.get(self.mode, self._bits) == self._bits:
            return
        greys = _BLACK_AND_WHITE if self.mode == "1" else _ALL_GREYS
        self._mode = "P"
        self.palette = ImagePalette.raw("RGB", bytes(level for level in greys for _ in range(3)))
        _, *rest = tuple[object, ...](tile.args or ())
        self.tile = [tile._replace(args=(_INDICES[self._bits], *rest))]


def _bits(upload: bytes) -> int:
    """Return the bits a pixel, 0 of a header that is cut short."""
    is_os2 = int.from_bytes(upload[_HEADER_AT : _HEADER_AT + 4], "little") == _OS2_HEADER_BYTES
    at = _OS2_BITS_AT if is_os2 else _BITS_AT
    return int.from_bytes(upload[at : at + 2], "little")

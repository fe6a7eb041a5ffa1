"""Find the pages of a TIFF without decoding any, and whether one would cost more memory or time than its size says.

Pillow counts pages by reading every directory in full and comparing each with all before it, which a few megabytes of
tiny directories turn into minutes; and it counts thumbnails as pages.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import DamagedImage, ImageTooLarge

_SUBFILE_TYPE, _WIDTH, _LENGTH, _COMPRESSION = 254, 256, 257, 259
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
_SIZES = (_WIDTH, _LENGTH, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH)
_OFFSETS = frozenset({273, 324})
"""StripOffsets and TileOffsets."""

_DEPTHS = frozenset({32997, 32998})
"""ImageDepth and TileDepth: how many slices there are in one page, and in one tile. libtiff mixes them up."""

_REDUCED_OR_MASK = 0b101
"""Bits of NewSubfileType: a smaller version of another page, or its transparency mask."""

_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""The types of whole numbers that libtiff takes for each other, as `struct` names them."""

_SHORT_OR_LONG = frozenset({3, 4})

_BYTES = frozenset({1, 2, 6, 7})
"""The types whose values Pillow keeps as bytes; of all others each value becomes a Python object."""

_BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""How many bytes one value of a type takes; libtiff passes over other types."""

_MOST_PAGES = 10_000
_MOST_VALUES = 1 << 18
_MOST_TAGS = 1_024
_MOST_PLAIN_PIECES = 1 << 14
"""Strips or tiles of an uncompressed picture, each of which Pillow reads in Python, holding the interpreter lock."""

_MOST_TILED = 2
"""How many times the largest picture's pixels its tiles may have: those at its edges reach beyond it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One full-size picture: where its directory lies, and what that tells.

    The longest of its tags is of `most_values`, and all take `value_bytes` of the file. The picture lies in `pieces`:
    tiles of this (width, height), or strips of `strip_rows`, None if that is not told. `is_clear` is False if a size is
    told twice, or not as one whole number above 0: readers differ in what they make of it, so that the size that is
    checked need not be the size that is decoded.
    """

    offset: int
    most_values: int
    value_bytes: int
    pieces: int
    tile: tuple[int, int] | None
    strip_rows: int | None
    is_clear: bool
    is_compressed: bool
    is_volume: bool

    def pixels_to_decode(self, width: int, height: int) -> int:
        """Return how many pixels there are in what is decoded for a picture of this size: in whole tiles, if any."""
        if self.tile is None:
            return width * height
        across, down = -(-width // self.tile[0]), -(-height // self.tile[1])
        return across * down * self.tile[0] * self.tile[1]

    def piece_pixels(self, width: int, height: int) -> int:
        """Return how many pixels there are in the largest tile or strip of a picture of this size."""
        if self.tile is not None:
            return self.tile[0] * self.tile[1]
        return width * min(self.strip_rows or height, height)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a directory is laid out in this file: classic or BigTIFF, little or big endian."""

    count: struct.Struct
    entry: struct.Struct
    next: struct.Struct
    order: str
    first_at: int


def pages(upload: bytes) -> list[Page]:
    """Return the full-size pages in the file's order; thumbnails count only if there is nothing else.

    Raises:
        DamagedImage: there is no readable directory, or there are more than 10,000, or of more tags than is usual.
    """
    layout = _layout(upload)
    size = len(upload)
    directories = _directories(upload, layout)
    found = [(_page(offset, tags, layout, size), _is_lesser(tags, layout)) for offset, tags in directories]
    if not found:
        raise DamagedImage("the TIFF has no page that can be read")
    return [page for page, lesser in found if not lesser] or [page for page, _ in found]


def alone(upload: bytes, page: Page) -> bytes:
    """Return the file with `page` made its first, so that a reader need not look at any other.

    Raises:
        DamagedImage: it has more values in a tag, or pieces, than any sound picture needs, values that lie over each
            other, sizes that are not clear, or a volume, or the file is a big-endian BigTIFF, which Pillow takes for a
            classic one.
    """
    if upload.startswith(b"MM\0+"):
        raise DamagedImage("big-endian BigTIFF cannot be read; save it as little-endian, or as classic TIFF")
    if not page.is_clear:
        raise DamagedImage("the TIFF tells the size of its picture or tiles twice, or not as one whole number")
    if page.is_volume:
        raise DamagedImage("the TIFF holds a volume in one page; save it with a page for each slice")
    if page.value_bytes > len(upload):  # libtiff takes a copy of each
        raise DamagedImage("the TIFF has tags of more bytes in all than the file has")
    if page.most_values > _MOST_VALUES:
        raise DamagedImage(f"the TIFF has a tag of {page.most_values} values; save it anew with larger strips or tiles")
    if page.pieces > _MOST_PLAIN_PIECES and not page.is_compressed:
        raise DamagedImage(f"the TIFF lies in {page.pieces} pieces; save it anew with larger strips or tiles")
    layout = _layout(upload)
    (first,) = layout.next.unpack_from(upload, layout.first_at)
    if first == page.offset:
        return upload
    return upload[: layout.first_at] + layout.next.pack(page.offset) + upload[layout.first_at + layout.next.size :]


def check_tiles(page: Page, size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageTooLarge if a picture of `size` (width, height) has tiles of more pixels than are allowed.

    One tile may have `max_pixels`, for it is held in memory; all together twice as many, for each is decoded whole.
    """
    if page.tile is None:
        return
    if page.tile[0] * page.tile[1] > max_pixels or page.pixels_to_decode(*size) > _MOST_TILED * max_pixels:
        raise ImageTooLarge(
            f"the TIFF has tiles of {page.tile[0]} × {page.tile[1]} pixels, much more in all than its picture; save it"
            " anew with smaller tiles"
        )


def _layout(upload: bytes) -> _Layout:
    order = "<" if upload[:2] == b"II" else ">"
    big = 43 in upload[2:4]
    count, entry, next_ = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    return _Layout(
        count=struct.Struct(order + count),
        entry=struct.Struct(order + entry),
        next=struct.Struct(order + next_),
        order=order,
        first_at=8 if big else 4,
    )


_Tags = list[tuple[int, int, int, bytes]]
"""Tag, type, number of values and inline bytes of each entry, in the file's order."""


def _directories(upload: bytes, layout: _Layout) -> Iterator[tuple[int, _Tags]]:
    """Yield each directory's offset and tags; end at the first that is broken or was seen before."""
    seen: set[int] = set()
    budget = len(upload)  # directories of a sound file do not overlap
    try:
        (offset,) = layout.next.unpack_from(upload, layout.first_at)
        while offset and offset not in seen:
            seen.add(offset)
            (count,) = layout.count.unpack_from(upload, offset)
            start = offset + layout.count.size
            end = start + count * layout.entry.size
            budget -= end - start
            _check_count(count)
            if budget < 0 or len(seen) > _MOST_PAGES:
                raise DamagedImage("the TIFF has more directories than it could have pages")
            yield offset, list(layout.entry.iter_unpack(upload[start:end]))
            (offset,) = layout.next.unpack_from(upload, end)
    except struct.error:
        return  # cut short: the pages before are sound


def _check_count(tags: int) -> None:
    if tags > _MOST_TAGS:
        raise DamagedImage(f"the TIFF has {tags} tags, more than any program writes")


def _page(offset: int, tags: _Tags, layout: _Layout, file_bytes: int) -> Page:
    sizes = {size: _numbers(size, tags, layout) for size in _SIZES}
    tile = sizes[_TILE_WIDTH] + sizes[_TILE_LENGTH]
    return Page(
        offset=offset,
        most_values=max((values for _, type_, values, _ in tags if type_ not in _BYTES), default=0),
        value_bytes=sum(_value_bytes(entry, layout, file_bytes) for entry in tags),
        pieces=max((values for tag, _, values, _ in tags if tag in _OFFSETS), default=0),
        tile=(tile[0], tile[1]) if len(tile) > 1 else None,
        strip_rows=next(iter(sizes[_ROWS_PER_STRIP]), None),
        is_clear=all(len(told) <= 1 and all(number > 0 for number in told) for told in sizes.values()),
        is_compressed=_is_compressed(tags, layout),
        is_volume=any(entry[0] in _DEPTHS and _number(entry, layout) != 1 for entry in tags),
    )


def _value_bytes(entry: tuple[int, int, int, bytes], layout: _Layout, file_bytes: int) -> int:
    """Return how many bytes an entry's values take; 0 if they do not lie in the file, where nobody can read them."""
    _, type_, values, inline = entry
    size = values * _BYTES_OF.get(type_, 0)
    if size <= len(inline):
        return size
    (offset,) = layout.next.unpack(inline)
    return size if offset + size <= file_bytes else 0


def _is_compressed(tags: _Tags, layout: _Layout) -> bool:
    """Whether Pillow takes the picture for compressed beyond doubt: it ignores some types of numbers."""
    told = [entry for entry in tags if entry[0] == _COMPRESSION]
    return bool(told) and all(entry[1] in _SHORT_OR_LONG and _number(entry, layout) > 1 for entry in told)


def _numbers(wanted: int, tags: _Tags, layout: _Layout) -> list[int]:
    """Return what each entry of this tag tells; sound directories have one at most."""
    return [_number(entry, layout) for entry in tags if entry[0] == wanted]


def _is_lesser(tags: _Tags, layout: _Layout) -> bool:
    return any(_number(entry, layout) & _REDUCED_OR_MASK for entry in tags if entry[0] == _SUBFILE_TYPE)


def _number(entry: tuple[int, int, int, bytes], layout: _Layout) -> int:
    """Return the one whole number that lies inline in an entry, 0 if something else does."""
    _, type_, values, inline = entry
    code = _WHOLE_NUMBERS.get(type_, "")
    if not code or values != 1 or struct.calcsize("=" + code) > len(inline):
        return 0
    return int(struct.unpack_from(layout.order + code, inline)[0])

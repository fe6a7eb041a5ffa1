"""Find the pages of a TIFF without decoding any, and whether one would cost more memory or time than its size says.

Pillow counts pages by reading every directory in full and comparing it with all before it. With a few megabytes of tiny
directories that takes minutes. It also counts thumbnails as pages.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from service.errors import DamagedImage, ImageTooLarge

_SUBFILE_TYPE, _WIDTH, _LENGTH, _COMPRESSION = 254, 256, 257, 259
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
_SIZES = (_WIDTH, _LENGTH, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH)
_OFFSETS, _BYTE_COUNTS = frozenset({273, 324}), frozenset({279, 325})
"""StripOffsets and TileOffsets; StripByteCounts and TileByteCounts."""

_LISTS = _OFFSETS | _BYTE_COUNTS | {320}
"""These and a palette's colours: the tags that are read and have many numbers."""

_FEW = frozenset(
    {254, *range(256, 260), 262, 266, 274, 277, 278, 282, 283, 284, 296, 322, 323, 338, 339, 529, 530, 532}
)
"""The tags that are read and have one number, or one or two for each channel."""

_BLOBS = frozenset({700, 34675})
"""XMP and the colour profile, which Pillow reads as well: any number of bytes."""

_SUBDIRECTORIES = 330
"""SubIFDs: pictures that are not pages."""

_DEPTHS = frozenset({32997, 32998})
"""ImageDepth and TileDepth: how many slices are in one page, and in one tile. libtiff confuses the two."""

_METAMORPH_PLANES = 33629
"""UIC2, in a MetaMorph stack (STK): one value for each slice; the slices lie one behind the other."""

_REDUCED_OR_MASK = 0b101
"""Bits of NewSubfileType: a smaller version of another page, or its transparency mask."""

_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""The types of whole numbers, by `struct`'s names; libtiff accepts any of them in place of another."""

_UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
"""The types of lists of numbers, by NumPy's names."""

_LONG = 4
_SHORT_OR_LONG = frozenset({3, _LONG})

_BYTES = frozenset({1, 2, 6, 7})
"""The types whose values Pillow keeps as bytes; each value of any other type becomes a Python object."""

_BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""How many bytes one value of each type takes; libtiff ignores other types."""

_MOST_PAGES = 10_000
_MOST_VALUES = 1 << 18
_MOST_OF_FEW = 1 << 10
_MOST_TAGS, _MOST_TAGS_IN_ALL = 1_024, 1 << 18
_MOST_SHARED_BYTES = 1 << 24
"""By how much all strips and tiles together may be longer than the file: programs write a blank tile once, and let all
blank tiles share it. But a piece can be a million meaningless bytes, and all other pieces the same one."""

_MOST_PLAIN_PIECES = 1 << 14
"""Most strips or tiles of an uncompressed picture: Pillow reads each in Python, holding the interpreter lock."""

_MOST_TILED = 2
"""How many times the pixels of the largest picture all its tiles may have: tiles at its edges reach beyond it."""


_Tag = tuple[int, int, int, bytes]
"""Tag, type, number of values and inline bytes of an entry."""

_Tags = list[_Tag]
"""A directory's entries, in the file's order."""


@dataclass(frozen=True, slots=True)
class Page:
    """One full-size picture: where its directory lies, and what the directory says.

    Its longest tag has `most_values` values, and all values take `value_bytes` of the file. `is_sparing` is False if a
    tag that is read has more values than it could need, or values of another kind. The picture lies in `pieces` pieces:
    tiles of `tile` (width, height), or strips of `strip_rows` rows, None if that is not said; the tags `byte_counts`
    say how long each piece is. `is_clear` is False if a size is given twice, or not as one whole number above 0:
    readers take that differently, so that the size that is checked need not be the size that is decoded. `is_cut`: some
    tags were lost, and readers differ in which of the others they use.
    """

    offset: int
    most_values: int
    value_bytes: int
    is_sparing: bool
    pieces: int
    byte_counts: tuple[_Tag, ...]
    tile: tuple[int, int] | None
    strip_rows: int | None
    is_clear: bool
    is_compressed: bool
    is_volume: bool
    is_cut: bool

    def pixels_to_decode(self, width: int, height: int) -> int:
        """Return how many pixels are decoded for a picture of this size: those of whole tiles, if there are tiles."""
        if self.tile is None:
            return width * height
        across, down = -(-width // self.tile[0]), -(-height // self.tile[1])
        return across * down * self.tile[0] * self.tile[1]

    def piece_pixels(self, width: int, height: int) -> int:
        """Return how many pixels the largest tile or strip of a picture of this size has."""
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
        DamagedImage: there is no readable directory, there are more than 10,000 or one has more tags than any program
            writes, or there are only thumbnails, beside pictures that are not pages.
    """
    layout = _layout(upload)
    directories = _directories(upload, layout)
    size = len(upload)
    full_size: list[Page] = []
    lesser: list[Page] = []
    is_beside_more = False
    for offset, tags in directories:
        (lesser if _is_lesser(tags, layout) else full_size).append(_page(offset, tags, layout, size))
        is_beside_more = is_beside_more or any(entry[0] == _SUBDIRECTORIES for entry in tags)
    if not full_size and not lesser:
        raise DamagedImage("the TIFF has no page that can be read")
    if not full_size and is_beside_more:
        raise DamagedImage(
            "the TIFF holds only a preview beside its picture, as camera raw (DNG, NEF) does; save it as PNG or TIFF"
        )
    return full_size or lesser


def alone(upload: bytes, page: Page) -> bytes:
    """Return the file with `page` made its first page, so that a reader need not look at any other.

    Raises:
        DamagedImage: the page has more values in a tag, or more pieces, than any sound picture needs; or it has values
            that overlap or lie behind the end of the file, unclear sizes, or a volume; or the file is a big-endian
            BigTIFF, which Pillow takes for a classic TIFF.
    """
    if upload.startswith(b"MM\0+"):
        raise DamagedImage("big-endian BigTIFF cannot be read; save it as little-endian, or as classic TIFF")
    if not page.is_clear:
        raise DamagedImage("the TIFF tells the size of its picture or tiles twice, or not as one whole number")
    if page.is_volume:
        raise DamagedImage("the TIFF holds a volume in one page; save it with a page for each slice")
    if page.is_cut:
        raise DamagedImage("the TIFF is cut short: what its tags tell is missing")
    layout = _layout(upload)
    _check_lists(upload, page, layout)
    (first,) = layout.next.unpack_from(upload, layout.first_at)
    if first == page.offset:
        return upload
    return upload[: layout.first_at] + layout.next.pack(page.offset) + upload[layout.first_at + layout.next.size :]


def retold(upload: bytes, numbers: Mapping[int, int]) -> bytes:
    """Return the file with these whole numbers, by tag, in its first directory; tags that it lacks are not added."""
    layout = _layout(upload)
    (offset,) = layout.next.unpack_from(upload, layout.first_at)
    (count,) = layout.count.unpack_from(upload, offset)
    told = bytearray(upload)
    first, size = offset + layout.count.size, layout.entry.size
    for at in range(first, first + count * size, size):
        tag, *_ = layout.entry.unpack_from(upload, at)
        if tag in numbers:
            layout.entry.pack_into(told, at, tag, _LONG, 1, struct.pack(layout.order + "I", numbers[tag]))
    return bytes(told)


def _check_lists(upload: bytes, page: Page, layout: _Layout) -> None:
    if page.value_bytes > len(upload):  # libtiff takes a copy of each
        raise DamagedImage("the TIFF has tags of more bytes in all than the file has")
    if page.most_values > _MOST_VALUES:
        raise DamagedImage(f"the TIFF has a tag of {page.most_values} values; save it anew with larger strips or tiles")
    if not page.is_sparing:
        raise DamagedImage("the TIFF has a tag with more values than it could have, or of a kind that it does not have")
    if page.pieces > _MOST_PLAIN_PIECES and not page.is_compressed:
        raise DamagedImage(f"the TIFF lies in {page.pieces} pieces; save it anew with larger strips or tiles")
    if sum(_sum(tag, layout, upload) for tag in page.byte_counts) > len(upload) + _MOST_SHARED_BYTES:
        raise DamagedImage("the TIFF has strips or tiles that lie over each other")


def check_tiles(page: Page, size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageTooLarge if a picture of `size` (width, height) has tiles of more pixels than are allowed.

    One tile may have `max_pixels`, since it is held in memory; all together may have twice as many, since each is
    decoded whole.
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


def _directories(upload: bytes, layout: _Layout) -> Iterator[tuple[int, _Tags]]:
    """Yield each directory's offset and tags, up to the first that is broken or was seen before."""
    seen: set[int] = set()
    budget = min(len(upload), _MOST_TAGS_IN_ALL * layout.entry.size)  # directories of a sound file do not overlap
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
            if end > len(upload):
                return
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
        is_sparing=all(_is_sparing(entry) for entry in tags),
        pieces=max((values for tag, _, values, _ in tags if tag in _OFFSETS), default=0),
        byte_counts=() if _is_plain(tags, layout) else tuple(entry for entry in tags if entry[0] in _BYTE_COUNTS),
        tile=(tile[0], tile[1]) if len(tile) > 1 else None,
        strip_rows=next(iter(sizes[_ROWS_PER_STRIP]), None),
        is_clear=all(len(told) <= 1 and all(number > 0 for number in told) for told in sizes.values()),
        is_compressed=_is_compressed(tags, layout),
        is_volume=any(_is_of_volume(entry, layout) for entry in tags),
        is_cut=_is_cut(tags, layout, file_bytes),
    )


def _is_cut(tags: _Tags, layout: _Layout, file_bytes: int) -> bool:
    """Whether the end of the file was lost, or replaced by zeros, and with it something that Pillow needs.

    Pillow reads no tag behind the first one whose values are missing, even if that is only a description. Signed levels
    and floats then come as unsigned ones, and a turned picture is not set upright. libtiff does not warn: it goes on.
    """
    missing = [at for at, entry in enumerate(tags) if _is_missing(entry, layout, file_bytes)]
    needed = [at for at, (tag, *_) in enumerate(tags) if tag in _FEW | _LISTS]
    return bool(missing and needed and missing[0] <= needed[-1]) or any(entry[:3] == (0, 0, 0) for entry in tags)


def _is_missing(entry: _Tag, layout: _Layout, file_bytes: int) -> bool:
    """Whether the values of an entry lie behind the end of the file."""
    _, type_, values, inline = entry
    size = values * _BYTES_OF.get(type_, 0)
    return size > len(inline) and layout.next.unpack(inline)[0] + size > file_bytes


def _is_of_volume(entry: _Tag, layout: _Layout) -> bool:
    """Whether a tag says that the page holds several slices."""
    tag, _, values, _ = entry
    return (tag in _DEPTHS and _number(entry, layout) != 1) or (tag == _METAMORPH_PLANES and values != 1)


def _value_bytes(entry: _Tag, layout: _Layout, file_bytes: int) -> int:
    """Return how many bytes an entry's values take; 0 if they do not lie in the file and so cannot be read."""
    _, type_, values, _ = entry
    return 0 if _is_missing(entry, layout, file_bytes) else values * _BYTES_OF.get(type_, 0)


def _is_sparing(entry: _Tag) -> bool:
    """Whether a tag that is read has no more numbers than it may; of bytes and fractions there could be any number."""
    tag, type_, values, _ = entry
    if tag in _LISTS:
        return values <= _MOST_VALUES and (type_ in _UNSIGNED or values == 1)
    return values <= _MOST_OF_FEW or (tag not in _FEW and not (tag in _BLOBS and type_ not in _BYTES))


def _sum(entry: _Tag, layout: _Layout, upload: bytes) -> int:
    """Return the sum of an entry's numbers; 0 if they are not numbers or do not lie in the file."""
    _, type_, values, inline = entry
    code, size = _UNSIGNED.get(type_), values * _BYTES_OF.get(type_, 0)
    if code is None or not _is_sparing(entry):
        return 0
    if size <= len(inline):
        return int(np.frombuffer(inline, layout.order + code, values).sum(dtype=np.float64))
    (offset,) = layout.next.unpack(inline)
    if offset + size > len(upload):
        return 0
    return int(np.frombuffer(upload, layout.order + code, values, offset).sum(dtype=np.float64))


def _is_compressed(tags: _Tags, layout: _Layout) -> bool:
    """Whether Pillow certainly takes the picture for compressed: it ignores numbers of some types."""
    told = [entry for entry in tags if entry[0] == _COMPRESSION]
    return bool(told) and all(entry[1] in _SHORT_OR_LONG and _number(entry, layout) > 1 for entry in told)


def _is_plain(tags: _Tags, layout: _Layout) -> bool:
    """Whether the picture is certainly uncompressed: readers then ignore how long its pieces are said to be."""
    return all(_number(entry, layout) == 1 for entry in tags if entry[0] == _COMPRESSION)


def _numbers(wanted: int, tags: _Tags, layout: _Layout) -> list[int]:
    """Return the number in each entry of this tag; sound directories have at most one."""
    return [_number(entry, layout) for entry in tags if entry[0] == wanted]


def _is_lesser(tags: _Tags, layout: _Layout) -> bool:
    return any(_number(entry, layout) & _REDUCED_OR_MASK for entry in tags if entry[0] == _SUBFILE_TYPE)


def _number(entry: _Tag, layout: _Layout) -> int:
    """Return the one whole number that lies inline in an entry; 0 if it holds anything else."""
    _, type_, values, inline = entry
    code = _WHOLE_NUMBERS.get(type_, "")
    if not code or values != 1 or struct.calcsize("=" + code) > len(inline):
        return 0
    return int(struct.unpack_from(layout.order + code, inline)[0])

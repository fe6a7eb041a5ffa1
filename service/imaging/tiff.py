"""Find the pages of a TIFF without decoding any, and whether one would cost more memory than its size says.

Pillow counts pages by reading every directory in full and comparing each with all before it, which a few megabytes of
tiny directories turn into minutes; and it counts thumbnails as pages.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import DamagedImage, ImageTooLarge

_SUBFILE_TYPE, _TILE_WIDTH, _TILE_LENGTH = 254, 322, 323
_REDUCED_OR_MASK = 0b101
"""Bits of NewSubfileType: a smaller version of another page, or its transparency mask."""

_SHORT, _LONG = 3, 4
_BYTES = frozenset({1, 2, 6, 7})
"""The types whose values Pillow keeps as bytes; of all others each value becomes a Python object."""

_MOST_PAGES = 10_000
_MOST_VALUES = 1 << 18


@dataclass(frozen=True, slots=True)
class Page:
    """One full-size picture: where its directory lies, the pixels of one tile (0 if not tiled), the longest tag."""

    offset: int
    tile_pixels: int
    most_values: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a directory is laid out in this file: classic or BigTIFF, little or big endian."""

    count: struct.Struct
    entry: struct.Struct
    next: struct.Struct
    short: struct.Struct
    long: struct.Struct
    first_at: int


def pages(upload: bytes) -> list[Page]:
    """Return the full-size pages in the file's order; thumbnails count only if there is nothing else.

    Raises:
        DamagedImage: there is no readable directory, or there are more than 10,000.
    """
    found = [(_page(offset, tags, layout), _is_lesser(tags, layout)) for offset, tags, layout in _directories(upload)]
    if not found:
        raise DamagedImage("the TIFF has no page that can be read")
    return [page for page, lesser in found if not lesser] or [page for page, _ in found]


def alone(upload: bytes, page: Page, max_pixels: int) -> bytes:
    """Return the file with `page` made its first, so that a reader need not look at any other.

    Raises:
        ImageTooLarge: one of its tiles alone has more pixels than `max_pixels`.
        DamagedImage: one of its tags has more values than any sound picture needs.
    """
    if page.tile_pixels > max_pixels:
        raise ImageTooLarge(f"the TIFF has tiles of more than the {max_pixels / 1e6:g} megapixels that are allowed")
    if page.most_values > _MOST_VALUES:
        raise DamagedImage(f"the TIFF has a tag of {page.most_values} values; save it anew with larger strips or tiles")
    layout = _layout(upload)
    (first,) = layout.next.unpack_from(upload, layout.first_at)
    if first == page.offset:
        return upload
    return upload[: layout.first_at] + layout.next.pack(page.offset) + upload[layout.first_at + layout.next.size :]


def _layout(upload: bytes) -> _Layout:
    order = "<" if upload[:2] == b"II" else ">"
    big = 43 in upload[2:4]
    count, entry, next_ = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    return _Layout(
        count=struct.Struct(order + count),
        entry=struct.Struct(order + entry),
        next=struct.Struct(order + next_),
        short=struct.Struct(order + "H"),
        long=struct.Struct(order + "I"),
        first_at=8 if big else 4,
    )


_Tags = dict[int, tuple[int, int, bytes]]
"""Type, number of values and inline bytes of each tag."""


def _directories(upload: bytes) -> Iterator[tuple[int, _Tags, _Layout]]:
    """Yield each directory's offset and tags; end at the first that is broken or was seen before."""
    layout = _layout(upload)
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
            if budget < 0 or len(seen) > _MOST_PAGES:
                raise DamagedImage("the TIFF has more directories than it could have pages")
            entries = layout.entry.iter_unpack(upload[start:end])
            yield offset, {tag: (type_, values, inline) for tag, type_, values, inline in entries}, layout
            (offset,) = layout.next.unpack_from(upload, end)
    except struct.error:
        return  # cut short: the pages before are sound


def _page(offset: int, tags: _Tags, layout: _Layout) -> Page:
    tile_pixels = _number(tags, _TILE_WIDTH, layout) * _number(tags, _TILE_LENGTH, layout)
    most_values = max((values for type_, values, _ in tags.values() if type_ not in _BYTES), default=0)
    return Page(offset, tile_pixels, most_values)


def _is_lesser(tags: _Tags, layout: _Layout) -> bool:
    return bool(_number(tags, _SUBFILE_TYPE, layout) & _REDUCED_OR_MASK)


def _number(tags: _Tags, tag: int, layout: _Layout) -> int:
    """Return the inline whole number of a tag, 0 if it is missing or something else."""
    type_, _, inline = tags.get(tag, (0, 0, b""))
    if type_ == _SHORT:
        return int(layout.short.unpack_from(inline)[0])
    return int(layout.long.unpack_from(inline)[0]) if type_ == _LONG else 0

"""Leave out of a PNG what its picture does not depend on: texts, times, colour profiles and the like.

Pillow reads them all, and refuses the whole picture if one is broken or inflates to more than a megabyte. Here they are
skipped, except that a bomb is refused: whoever made it means harm.
"""

import re
import zlib
from collections.abc import Iterator, Sequence

from service.errors import DamagedImage

_MOST_CHUNKS = 10_000
"""And one more for each KiB of the file. Pillow reads chunks in Python: a few megabytes of empty ones take minutes."""

_SIGNATURE_BYTES = 8

_NEEDED = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""The ancillary chunks that pixels and frames depend on."""

_COMPRESSED: dict[bytes, re.Pattern[bytes]] = {
    b"zTXt": re.compile(rb"[^\x00]{1,79}\x00\x00"),
    b"iCCP": re.compile(rb"[^\x00]{1,79}\x00\x00"),
    b"iTXt": re.compile(rb"[^\x00]{1,79}\x00\x01\x00[^\x00]{0,99}\x00[^\x00]{0,999}\x00"),
}
"""The chunks that may be deflated, and what comes before the deflated data in them: a keyword of at most 79 bytes and
the method, and, in an international text, a language and the keyword in that language."""

_LARGE_BYTES = 1 << 20
_BOMB_TIMES = 100
"""What is large after inflating this many times is a bomb; texts deflate to a tenth, profiles to a half."""

_MOST_INFLATED = 2
"""How many of those chunks are looked into, at up to 5 ms each; the others are skipped unread."""

_HEADER = b"IHDR"
_PIXELS = frozenset({b"IDAT", b"fdAT"})
_ORIENTATION = b"eXIf"
_MOST_ORIENTATION_BYTES = 1 << 18
"""As much as in a JPEG, because each value of a tag becomes a Python object."""

_PROFILE = b"iCCP"


def essential(upload: bytes) -> bytes:
    """Return the PNG without the chunks that its picture does not depend on; if there are none, as it is.

    Raises:
        DamagedImage: it has more chunks, or colour profiles, than any encoder writes, or a bomb in one of them.
    """
    view, pieces, kept_from = memoryview(upload), [], 0
    compressed: list[tuple[bytes, memoryview]] = []
    for name, start, end in chunks(upload):
        if name in _COMPRESSED:
            compressed.append((name, view[start + 8 : end - 4]))
        if _is_needless(name, view[start:end]):
            pieces.append(view[kept_from:start])
            kept_from = end
    _check(compressed)
    return b"".join([*pieces, view[kept_from:]]) if pieces else upload


def check_pixels(upload: bytes) -> None:
    """Raise DamagedImage if a chunk of pixels has a wrong checksum, or the first chunk is not the one and only header.

    Pillow does not check those checksums, and takes the size from the last of several headers.
    """
    view = memoryview(upload)
    for name, start, end in chunks(upload):
        if (name == _HEADER) != (start == _SIGNATURE_BYTES):
            raise DamagedImage("the PNG is broken: it does not begin with its one header")
        if name in _PIXELS and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise DamagedImage("the PNG is broken: the checksum of its pixels is wrong")


def _check(compressed: Sequence[tuple[bytes, memoryview]]) -> None:
    if sum(name == _PROFILE for name, _ in compressed) > 1:
        raise DamagedImage("the PNG has more than one colour profile")
    for name, content in compressed[:_MOST_INFLATED]:
        if _is_bomb(content, _COMPRESSED[name]):
            raise DamagedImage("the PNG has a text or profile that inflates without measure; save it without them")


def chunks(upload: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, and where it begins and ends; the last one may end behind the file.

    Raises:
        DamagedImage: there are more than any encoder writes.
    """
    most, at = _MOST_CHUNKS + len(upload) // 1024, _SIGNATURE_BYTES
    for _ in range(most):
        if at >= len(upload):
            return
        end = at + 12 + int.from_bytes(upload[at : at + 4])
        yield upload[at + 4 : at + 8], at, end
        at = end
    raise DamagedImage(f"the PNG has more than {most} chunks")


def _is_bomb(content: memoryview, before: re.Pattern[bytes]) -> bool:
    """Whether a chunk's content inflates to something large and out of proportion to it."""
    if (found := before.match(content)) is None:
        return False
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(content[found.end() :], _LARGE_BYTES)
    except zlib.error:
        return False
    taken = len(content) - found.end() - len(inflating.unconsumed_tail)
    return len(inflated) == _LARGE_BYTES > _BOMB_TIMES * taken


def _is_needless(name: bytes, chunk: memoryview) -> bool:
    """Whether a decoder may skip a chunk: a small first letter says so. A name that is not all letters is damage."""
    if name == _ORIENTATION:
        return len(chunk) > _MOST_ORIENTATION_BYTES or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:])
    return name.isalpha() and name[:1].islower() and name not in _NEEDED

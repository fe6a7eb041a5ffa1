"""Leave out of a PNG what its picture does not depend on: texts, times, colour profiles and the like.

Pillow reads them all, and refuses a whole picture if one is broken or inflates to more than a megabyte. Here they are
passed over, unless one is a bomb: whoever made that means harm.
"""

import re
import zlib
from collections.abc import Iterator, Sequence

from service.errors import DamagedImage

_MOST_CHUNKS = 10_000
"""Beside one for each KiB of the file. Pillow walks them in Python: a few megabytes of empty ones take it minutes."""

_SIGNATURE_BYTES = 8

_NEEDED = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""The ancillary chunks that pixels and frames depend on."""

_COMPRESSED: dict[bytes, re.Pattern[bytes]] = {
    b"zTXt": re.compile(rb"[^\x00]{1,79}\x00\x00"),
    b"iCCP": re.compile(rb"[^\x00]{1,79}\x00\x00"),
    b"iTXt": re.compile(rb"[^\x00]{1,79}\x00\x01\x00[^\x00]{0,99}\x00[^\x00]{0,999}\x00"),
}
"""The chunks that deflate may have shrunk, and what lies in them before what it made: a keyword of at most 79 bytes and
the method, and in an international text a language and the keyword in it."""

_LARGE_BYTES = 1 << 20
_BOMB_TIMES = 100
"""What is large already after inflating so many times is a bomb; texts shrink to a tenth, profiles to a half."""

_MOST_INFLATED = 2
"""So many of those chunks are looked into, which takes up to 5 ms each; others are passed over all the same."""

_HEADER = b"IHDR"
_PIXELS = frozenset({b"IDAT", b"fdAT"})
_ORIENTATION = b"eXIf"
_MOST_ORIENTATION_BYTES = 1 << 18
"""As much as in a JPEG: each of a tag's values becomes a Python object."""

_PROFILE = b"iCCP"


def essential(upload: bytes) -> bytes:
    """Return the PNG without the chunks that its picture does not depend on; as it is, if there are none.

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
    """Raise DamagedImage if the checksum of a chunk of pixels is wrong, or the header is not one and the first chunk.

    Pillow does not look at those checksums, and of several headers it takes the last one's size.
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
    """Yield the name of each chunk, and where it begins and ends; the last may end behind the file.

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
    """Whether the content of a chunk inflates to something large that is out of proportion to it."""
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
    """Whether a decoder may pass a chunk over: a small first letter says so. What has no name of letters is damage."""
    if name == _ORIENTATION:
        return len(chunk) > _MOST_ORIENTATION_BYTES or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:])
    return name.isalpha() and name[:1].islower() and name not in _NEEDED

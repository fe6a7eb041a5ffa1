"""Leave out of a PNG what its picture does not depend on: texts, times, colour profiles and the like.

Pillow reads them all, and refuses a whole picture if one is broken or inflates to more than a megabyte; nothing here
looks at them.
"""

import zlib
from collections.abc import Iterator

from service.errors import DamagedImage

_MOST_CHUNKS = 10_000
"""Beside one for each KiB of the file. Pillow walks them in Python: a few megabytes of empty ones take it minutes."""

_SIGNATURE_BYTES = 8

_NEEDED = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""The ancillary chunks that pixels and frames depend on."""

_ORIENTATION = b"eXIf"
_PROFILE = b"iCCP"


def essential(upload: bytes) -> bytes:
    """Return the PNG without the chunks that its picture does not depend on; as it is, if there are none.

    Raises:
        DamagedImage: it has more chunks, or colour profiles, than any encoder writes.
    """
    view, pieces, kept_from, profiles = memoryview(upload), [], 0, 0
    for name, start, end in _chunks(upload):
        profiles += name == _PROFILE
        if profiles > 1:
            raise DamagedImage("the PNG has more than one colour profile")
        if _is_needless(name, view[start:end]):
            pieces.append(view[kept_from:start])
            kept_from = end
    return b"".join([*pieces, view[kept_from:]]) if pieces else upload


def _chunks(upload: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, and where it begins and ends; the last may end behind the file."""
    most, at = _MOST_CHUNKS + len(upload) // 1024, _SIGNATURE_BYTES
    for _ in range(most):
        if at >= len(upload):
            return
        end = at + 12 + int.from_bytes(upload[at : at + 4])
        yield upload[at + 4 : at + 8], at, end
        at = end
    raise DamagedImage(f"the PNG has more than {most} chunks")


def _is_needless(name: bytes, chunk: memoryview) -> bool:
    """Whether a decoder may pass a chunk over: a small first letter says so. What has no name of letters is damage."""
    if name == _ORIENTATION:
        return zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:])
    return name.isalpha() and name[:1].islower() and name not in _NEEDED

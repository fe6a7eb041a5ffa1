"""Which representation of an answer a caller accepts (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.errors import NotAcceptable

MAX_ACCEPT = 4096
"""In characters; browsers send some 150. Parsing tens of thousands would keep the event loop busy."""

_BLANKS = re.compile(r"[ \t]+")
_LEADING_DOT = re.compile(r"(;\s*q\s*=\s*)\.(?=\d)", re.IGNORECASE)
_STAR_ALONE = re.compile(r"(?<![^,]) ?\*(?= ?(?:[;,]|$))")
_TRAILING_DOT = re.compile(r"(;\s*q\s*=\s*\d)\.(?!\d)", re.IGNORECASE)


class Representation(StrEnum):
    """The media types in which a segmentation can be had; the first is the default."""

    JSON = "application/json"
    PNG = "image/png"


def choose(accept: Sequence[str]) -> Representation:
    """Return the representation that the `Accept` header lines prefer; JSON if they leave the choice open.

    Raises:
        NotAcceptable: they accept none that exists, or are longer than MAX_ACCEPT together.
    """
    header = ", ".join(accept)
    if len(header) > MAX_ACCEPT:
        raise NotAcceptable(f"an Accept header has at most {MAX_ACCEPT} characters")
    return _best_of(_BLANKS.sub(" ", header).strip(" ,"))  # the parser scans a run of blanks again from each one


@lru_cache(maxsize=64)
def _best_of(header: str) -> Representation:
    """Cached, since a viewer sends the same header with every upload, and reading it takes longer than routing."""
    if not header:
        return Representation.JSON
    header = _with_whole_numbers(_STAR_ALONE.sub("*/*", header))  # `*`, as older Java and some scripts write it
    best = _without_parameters(parse_accept_header(header, MIMEAccept)).best_match(list(Representation))
    if best is None:
        raise NotAcceptable(f"answers exist as {', '.join(Representation)}; the Accept header allows none of them")
    return Representation(best)


def _with_whole_numbers(header: str) -> str:
    """Write `q=.2`, which older Java sends in every request, as `q=0.2`, and `q=1.` as `q=1`; else neither is read."""
    return _TRAILING_DOT.sub(r"\1", _LEADING_DOT.sub(r"\g<1>0.", header))


def _without_parameters(accept: MIMEAccept) -> MIMEAccept:
    """Drop what follows a media type: `application/json; charset=utf-8` asks for JSON like any other."""
    return MIMEAccept([(media_type.split(";")[0].strip(), quality) for media_type, quality in accept])

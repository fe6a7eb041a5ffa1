"""Which representation of an answer a caller accepts (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from enum import StrEnum

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.errors import NotAcceptable


class Representation(StrEnum):
    """The media types in which a segmentation can be had; the first is the default."""

    JSON = "application/json"
    PNG = "image/png"


def choose(accept: Sequence[str]) -> Representation:
    """Return the representation that the `Accept` header lines like best; JSON where they leave the choice open.

    Raises:
        NotAcceptable: they accept none of those that exist.
    """
    header = ", ".join(accept).strip()
    if not header:
        return Representation.JSON
    best = _without_parameters(parse_accept_header(header, MIMEAccept)).best_match(list(Representation))
    if best is None:
        raise NotAcceptable(f"answers exist as {', '.join(Representation)}; the Accept header allows none of them")
    return Representation(best)


def _without_parameters(accept: MIMEAccept) -> MIMEAccept:
    """Drop what follows a media type: `application/json; charset=utf-8` asks for JSON like any other."""
    return MIMEAccept([(media_type.split(";")[0].strip(), quality) for media_type, quality in accept])

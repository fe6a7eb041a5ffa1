"""What a request's head must be besides well-formed (the parser sees to that), and which headers are ignored."""

import re

Headers = list[tuple[bytes, bytes]]
"""Names, in lower case, and values as they came."""

VERSIONS = ("1.0", "1.1")
HOST = re.compile(rb"(\[[\w.~!$&'()*+,;=:%-]+\]|([\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")
"""RFC 3986, section 3.2.2, but the form of an IPv6 address within its brackets is not checked. It may be empty."""

WITHOUT_PATH = re.compile(rb"https?://[^/?#]+(?=\?|\Z)", re.IGNORECASE)


def fault_of(version: str, headers: Headers) -> int | None:
    """Return the status with which to refuse this head; None if there is no fault in it."""
    if version not in VERSIONS:
        return 505
    if not _has_host(version, headers):
        return 400
    return 501 if _has_unknown_coding(headers) else None


def heed(version: str, headers: Headers) -> None:
    """Remove the headers that mean nothing here.

    Cookies, as the service has none: FastAPI parses them for each route, and Python before 3.11.10 takes seconds for
    some of 60 KB (CVE-2024-7592). And the `Expect` of an HTTP/1.0 caller (RFC 9110, section 10.1.1).
    """
    unheeded = (b"cookie", b"expect") if version == "1.0" else (b"cookie",)
    headers[:] = [header for header in headers if header[0] not in unheeded]


def with_path(target: bytes) -> bytes:
    """Return the request's target; one that names only a server means its root (RFC 9112, section 3.2.1)."""
    found = None if target.startswith(b"/") else WITHOUT_PATH.match(target)
    return target if found is None else b"%b/%b" % (found[0], target[found.end() :])


def _has_host(version: str, headers: Headers) -> bool:
    """Whether one server is named; given two names, a proxy could take the other one (RFC 9112, section 3.2).

    HTTP/1.0 need not name any.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return not hosts and version == "1.0"
    return HOST.fullmatch(hosts[0].strip(b" \t")) is not None


def _has_unknown_coding(headers: Headers) -> bool:
    """Whether a chunked body is also encoded in another way (RFC 9112, section 6.1).

    The parser refuses a body whose last coding is not chunked.
    """
    named = b",".join(value for name, value in headers if name == b"transfer-encoding")
    *others, last = (coding.strip().lower() for coding in named.split(b","))
    return last == b"chunked" and any(others)

"""What a request's head has to be beside well-formed, which the parser sees to, and what of it nobody here heeds."""

import re

Headers = list[tuple[bytes, bytes]]
"""Names, in small letters, and values, as they came."""

VERSIONS = ("1.0", "1.1")
HOST = re.compile(rb"(\[[\w.~!$&'()*+,;=:%-]+\]|([\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")
"""RFC 3986, section 3.2.2, but for what an IPv6 address looks like within its brackets. It may be empty."""

WITHOUT_PATH = re.compile(rb"https?://[^/?#]+(?=\?|\Z)", re.IGNORECASE)


def fault_of(version: str, headers: Headers) -> int | None:
    """Return the status with which such a head is refused; None: there is no fault in it."""
    if version not in VERSIONS:
        return 505
    if not _has_host(version, headers):
        return 400
    return 501 if _has_unknown_coding(headers) else None


def heed(version: str, headers: Headers) -> None:
    """Remove what means nothing here.

    Cookies, as there are none: FastAPI parses them for each route, and Python before 3.11.10 takes seconds for some of
    60 KB (CVE-2024-7592). And what an HTTP/1.0 caller expects (RFC 9110, section 10.1.1).
    """
    unheeded = (b"cookie", b"expect") if version == "1.0" else (b"cookie",)
    headers[:] = [header for header in headers if header[0] not in unheeded]


def with_path(target: bytes) -> bytes:
    """Return the request's target; one that names a server alone means its root (RFC 9112, section 3.2.1)."""
    found = None if target.startswith(b"/") else WITHOUT_PATH.match(target)
    return target if found is None else b"%b/%b" % (found[0], target[found.end() :])


def _has_host(version: str, headers: Headers) -> bool:
    """Whether one server is named; two on the way could each believe another name (RFC 9112, section 3.2).

    HTTP/1.0 need not name any.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return not hosts and version == "1.0"
    return HOST.fullmatch(hosts[0].strip(b" \t")) is not None


def _has_unknown_coding(headers: Headers) -> bool:
    """Whether the body is in chunks of something that is encoded further (RFC 9112, section 6.1).

    What does not end in chunks the parser refuses.
    """
    named = b",".join(value for name, value in headers if name == b"transfer-encoding")
    *others, last = (coding.strip().lower() for coding in named.split(b","))
    return last == b"chunked" and any(others)

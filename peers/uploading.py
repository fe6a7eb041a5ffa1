"""Whether a server answers an upload: the only sign of readiness that all of them give."""

import urllib.error
import urllib.request

from service.benchmark.uploads import Body

PATIENCE_S = 20.0


def is_answered(url: str, body: Body) -> bool:
    """Whether a POST of `body` to an http `url` is answered with 200."""
    headers = {"Content-Type": body.media_type, "Accept": "image/png"}
    request = urllib.request.Request(url, body.content, headers)  # noqa: S310 -- our own loopback URL
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

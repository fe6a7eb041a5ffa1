"""Whole requests, as bytes, that an HTTP client would refuse to send, and what each deserves."""

from dataclasses import dataclass

from tests.doubles import draw, png
from tests.end_to_end.hostile_images import bomb
from tests.end_to_end.server_process import request_head, upload

IMAGE = png(draw())
BOUNDARY = "xxBOUNDARYxx"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"


@dataclass(frozen=True)
class Hostile:
    """What is sent, and the statuses of all answers until the server closes; where there is none, the caller leaves."""

    request: bytes
    statuses: tuple[int, ...]


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""])
    return head.encode() + content + b"\r\n"


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode(), head: str = FORM) -> bytes:
    return upload(b"".join(parts) + end, head, CLOSE)


def get(path: str, connection: str = CLOSE) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n{connection}\r\n\r\n".encode()


FILE = part('name="image"; filename="a"', IMAGE)

REQUESTS = {
    "a length longer than the body": Hostile(upload(IMAGE)[:-100], ()),
    "a length longer than the body, of a form": Hostile(form(FILE)[:-100], ()),
    "a length shorter than the body": Hostile(
        request_head("/segment/retina", f"Content-Length: {len(IMAGE) - 100}") + IMAGE, (422, 400)
    ),
    "a length of 0 before a body": Hostile(request_head("/segment/retina", "Content-Length: 0") + IMAGE, (415, 400)),
    "two lengths": Hostile(upload(IMAGE, "Content-Length: 3"), (400,)),
    "a length of forty digits": Hostile(request_head("/segment/retina", f"Content-Length: {'9' * 40}"), (400,)),
    "a length and chunks": Hostile(upload(b"0\r\n\r\n", CHUNKED), (400,)),
    "a length beyond the limit": Hostile(request_head("/segment/retina", "Content-Length: 99999999", CLOSE), (413,)),
    "a chunk beyond the limit": Hostile(
        request_head("/segment/retina", CHUNKED, CLOSE) + b"fffffff\r\n" + bytes(2**21), (413,)
    ),
    "a chunk of 2^64 bytes": Hostile(request_head("/segment/retina", CHUNKED) + b"1" + b"0" * 16 + b"\r\n", (400,)),
    "chunks of a byte each": Hostile(
        request_head("/segment/retina", CHUNKED, CLOSE) + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", (415,)
    ),
    "gzip in chunks": Hostile(request_head("/segment/retina", "Transfer-Encoding: gzip, chunked"), (501,)),
    "chunks that end early": Hostile(request_head("/segment/retina", CHUNKED) + b"ff\r\nabc", ()),
    "gzip bomb as the encoding": Hostile(upload(bomb(wbits=31), "Content-Encoding: gzip", CLOSE), (415,)),
    "50 parts": Hostile(form(*[part(f'name="p{number}"', b"x") for number in range(50)], FILE), (400,)),
    "50 images": Hostile(form(*[FILE] * 50), (400,)),
    "50 references before the image": Hostile(
        form(*[part('name="reference"; filename="a"', b"") for _ in range(50)], FILE), (400,)
    ),
    "a part with a hundred headers": Hostile(
        form(part("name=x", b"", *[f"X-{n}: y" for n in range(100)]), FILE), (400,)
    ),
    "a part with a header of 100 kB": Hostile(form(part("name=x", b"", "X-A: " + "y" * 100_000), FILE), (400,)),
    "a form without a boundary": Hostile(form(FILE, head="Content-Type: multipart/form-data"), (400,)),
    "a boundary of 10 kB": Hostile(form(FILE, head=FORM + "x" * 10_000), (400,)),
    "a form without parts": Hostile(form(), (400,)),
    "a form that never ends": Hostile(form(FILE, end=b""), (400,)),
    "a form in a form": Hostile(
        form(part('name="image"; filename="a"', form(FILE).replace(BOUNDARY.encode(), b"other"))), (415,)
    ),
    "a form of line ends": Hostile(form(b"\r\n" * 100_000), (400,)),
    "10,000 headers": Hostile(upload(IMAGE, *[f"X-{number}: y" for number in range(10_000)]), (431,)),
    "a path of 100 kB": Hostile(get("/" + "x" * 100_000), (431,)),
    "a path out of the server's folder": Hostile(get("/models/../../../etc/passwd"), (404,)),
    "a modality that is no UTF-8": Hostile(get("/models/%ff%fe%00"), (404,)),
    "a parameter that is no UTF-8": Hostile(
        request_head("/segment/retina?threshold=%ff%00", "Content-Length: 0", CLOSE), (400,)
    ),
    "a header with a NUL": Hostile(upload(IMAGE, "X-A: a\0b"), (400,)),
    "a host that is none": Hostile(get("/livez").replace(b"Host: test", b"Host: a b/c@d"), (400,)),
    "a server alone": Hostile(get("http://test"), (200,)),
    "a cookie of 60 kB": Hostile(get("/livez", CLOSE + '\r\nCookie: a="' + "\\" * 60_000 + '"'), (200,)),
    "HTTP/2.0 in an older form": Hostile(get("/livez").replace(b"HTTP/1.1", b"HTTP/2.0"), (505,)),
    "HTTP/2": Hostile(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "a hundred requests at once": Hostile(get("/livez", "Connection: keep-alive") * 99 + get("/livez"), (200,) * 100),
    "ten thousand requests at once": Hostile(
        get("/livez", "Connection: keep-alive") * 9_999 + get("/livez"), (200,) * 10_000
    ),
}

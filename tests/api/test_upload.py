"""Reading a request's body: bounded in size and time, whatever it holds."""

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.api.upload import Files, receive_files
from service.errors import AlnetError, BadMultipart, DeadlineExceeded, Overloaded, UploadTooLarge, UploadTooSlow

BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
FOREVER = 1e9


class Body:
    """A request's body that arrives in these chunks; after them the caller stays silent, or leaves."""

    def __init__(self, *chunks: bytes, complete: bool = True, leaves: bool = False) -> None:
        self._chunks = list(chunks) or [b""]
        self._complete, self._leaves = complete, leaves

    async def receive(self) -> Message:
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or not self._complete}
        if not self._leaves:
            await asyncio.sleep(FOREVER)
        return {"type": "http.disconnect"}


def read(
    body: Body,
    content_type: str | None = None,
    *,
    content_length: str | None = None,
    max_bytes: int = 10_000,
    slow_after_s: float = 10.0,
    deadline_after_s: float = 20.0,
    take: Callable[[int], None] = lambda _: None,
) -> Files:
    given_headers = {"content-type": content_type, "content-length": content_length}
    headers = [(name.encode(), value.encode()) for name, value in given_headers.items() if value is not None]
    request = Request({"type": "http", "method": "POST", "headers": headers}, body.receive)

    async def bounded() -> Files:
        now = time.monotonic()
        return await receive_files(
            request, max_bytes=max_bytes, take=take, slow_at=now + slow_after_s, deadline=now + deadline_after_s
        )

    return asyncio.run(bounded())


def part(name: str, content: bytes, filename: str | None = "x.png") -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize("content_type", [None, "image/png", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_no_form_is_the_image_as_it_is(content_type: str | None) -> None:
    assert read(Body(b"ab", b"", b"cd"), content_type) == Files(b"abcd")


def test_an_empty_body_is_an_empty_image() -> None:
    assert read(Body()) == Files(b"")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_forms_files_come_out_whole_however_they_are_cut_into_chunks(size: int) -> None:
    image, reference = bytes(range(256)) * 3, b"\r\n--" + BOUNDARY[:4].encode() + b"\r\n"
    body = form(part("image", image), part("reference", reference))
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert read(Body(*chunks), FORM) == Files(image, reference)


@pytest.mark.parametrize("kind", ["Multipart/Form-Data", "MULTIPART/FORM-DATA ", " multipart/form-data"])
def test_a_form_is_one_however_its_kind_is_written(kind: str) -> None:
    assert read(Body(form(part("image", b"abc"))), f"{kind}; boundary={BOUNDARY}") == Files(b"abc")


def test_other_parts_of_a_form_are_ignored() -> None:
    body = form(part("patient", b"x", filename=None), part("image", b"abc"), part("thumbnail", b"y"))
    assert read(Body(body), FORM) == Files(b"abc")


def test_a_form_of_eight_parts_is_read() -> None:
    assert read(Body(form(part("image", b"abc"), *[part("more", b"")] * 7)), FORM) == Files(b"abc")


@pytest.mark.parametrize("name", ["threshold", "probability", "frame", "all_components"])
@pytest.mark.parametrize("filename", [None, "t.txt"])
def test_a_query_parameter_in_a_form_is_refused_and_not_passed_over(name: str, filename: str | None) -> None:
    with pytest.raises(BadMultipart, match=f"`{name}` belongs into the address"):
        read(Body(form(part("image", b"abc"), part(name, b"0.4", filename))), FORM)


def test_a_reference_for_which_nobody_chose_a_file_was_not_sent() -> None:
    for parts in (
        [part("image", b"abc"), part("reference", b"", filename="")],
        [part("reference", b"", filename=""), part("image", b"abc", filename="")],
        [part("reference", b"", filename=""), part("image", b"abc")],
    ):
        assert read(Body(form(*parts)), FORM) == Files(b"abc", None)


def test_a_reference_with_a_name_or_with_content_was_sent() -> None:
    for content, filename in ((b"", "x.png"), (b"def", "")):
        body = form(part("image", b"abc"), part("reference", content, filename=filename))
        assert read(Body(body), FORM) == Files(b"abc", content)


def test_an_empty_file_is_left_to_the_decoder() -> None:
    assert read(Body(form(part("image", b""))), FORM) == Files(b"")


def test_a_file_whose_name_is_encoded_is_a_file() -> None:
    disposition = b"Content-Disposition: form-data; name=\"image\"; filename*=utf-8''%C3%A4.png"
    body = form(b"--" + BOUNDARY.encode() + b"\r\n" + disposition + b"\r\n\r\nabc\r\n")
    assert read(Body(body), FORM) == Files(b"abc")


@pytest.mark.parametrize("encoding", ["7bit", "8BIT", " binary"])
def test_a_file_may_say_that_its_bytes_are_as_they_are(encoding: str) -> None:
    assert read(Body(form(encoded_part("image", encoding))), FORM) == Files(b"YWJj")


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
@pytest.mark.parametrize("name", ["image", "reference"])
def test_an_encoded_file_is_refused_by_that_name(name: str, encoding: str) -> None:
    with pytest.raises(BadMultipart, match=f"`{name}` has a Content-Transfer-Encoding"):
        read(Body(form(encoded_part(name, encoding))), FORM)


def test_the_encoding_of_one_part_is_not_that_of_the_next() -> None:
    body = form(encoded_part("more", "base64"), part("image", b"abc"))
    assert read(Body(body), FORM) == Files(b"abc")


def encoded_part(name: str, encoding: str) -> bytes:
    first, rest = part(name, b"YWJj").split(b"\r\n", 1)
    return first + b"\r\nContent-Transfer-Encoding: " + encoding.encode() + b"\r\n" + rest


BROKEN_FORMS = {
    "boundary too long": (form(part("image", b"abc")), "multipart/form-data; boundary=" + "x" * 300),
    "no parts": (form(), FORM),
    "no image": (form(part("reference", b"abc")), FORM),
    "image is no file": (form(part("image", b"abc", filename=None)), FORM),
    "two images": (form(part("image", b"abc"), part("image", b"abc")), FORM),
    "two references": (form(part("image", b"a"), part("reference", b"b"), part("reference", b"b")), FORM),
    "cut off in the image": (part("image", b"abc")[:-3], FORM),
    "cut off after the image": (part("image", b"abc"), FORM),
    "cut off in the reference": (part("image", b"abc") + part("reference", b"abc"), FORM),
    "nine parts": (form(part("image", b"abc"), *[part("more", b"")] * 8), FORM),
    "50 fields": (form(part("image", b"abc"), *[part("more", b"", filename=None)] * 50), FORM),
    "nine headers in a part": (form(b"--b0undary\r\n" + b"X-More: 1\r\n" * 8 + part("image", b"abc")[12:]), FORM),
    "a header of 5 KiB": (form(b"--b0undary\r\nX-More: " + b"1" * 5000 + b"\r\n" + part("image", b"abc")[12:]), FORM),
    "no boundary": (form(part("image", b"abc")), "multipart/form-data"),
    "empty boundary": (form(part("image", b"abc")), "multipart/form-data; boundary="),
    "another boundary": (form(part("image", b"abc")), "multipart/form-data; boundary=other"),
    "no form at all": (b"\x89PNG\r\n\x1a\n", FORM),
    "empty": (b"", FORM),
    "part without name": (
        form(f"--{BOUNDARY}\r\nContent-Disposition: form-data; filename=x\r\n\r\nabc\r\n".encode()),
        FORM,
    ),
    "boundaries that are none": (form(part("image", b"\r\n--b0undaryx" * 5000)), FORM),
    "spaces behind a boundary": (form(part("image", b"abc") + b"--b0undary" + b" " * 100_000 + b"\r\n\r\n"), FORM),
    "part without headers behind one that has them": (
        form(part("image", b"abc"), part("more", b""), f"--{BOUNDARY}\r\n\r\nabc\r\n".encode()),
        FORM,
    ),
    "part without headers": (form(f"--{BOUNDARY}\r\n\r\nabc\r\n".encode()), FORM),
}


@pytest.mark.parametrize("case", BROKEN_FORMS)
def test_a_broken_form_is_refused(case: str) -> None:
    body, content_type = BROKEN_FORMS[case]
    with pytest.raises(BadMultipart):
        read(Body(body), content_type, max_bytes=200_000)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "preamble",
    [
        b"This is a multi-part message in MIME format.\r\n",
        b"\r\n",
        b"\r\r\n--b0undaryx\r\n --b0undary\r\n",
        b"x" * 9_000 + b"\r\n",
    ],
)
def test_what_stands_before_the_first_boundary_is_nobodys(preamble: bytes, size: int) -> None:
    body = preamble + form(part("image", b"12")).replace(b"--b0undary\r\n", b"--b0undary \t \r\n", 1)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(Body(*chunks), FORM) == Files(b"12")


def test_names_of_a_parts_parameters_may_be_written_large() -> None:
    written = form(part("image", b"12")).replace(b"filename=", b"FILENAME=")
    assert read(Body(written), FORM) == Files(b"12")


def test_a_body_without_a_boundary_is_refused_once_it_cannot_be_a_preamble() -> None:
    lines = Body(*[b"no boundary\r\n"] * 1500, complete=False)
    with pytest.raises(BadMultipart, match="not well-formed"):
        read(lines, FORM, max_bytes=100_000)
    one = Body(b"x" * 17_000, complete=False)
    with pytest.raises(BadMultipart, match="not well-formed"):
        read(one, FORM, max_bytes=100_000)
    with pytest.raises(BadMultipart, match="not well-formed"):
        read(Body(b"no boundary"), FORM)


@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_a_few_spaces_behind_a_boundary_are_nobodys_however_they_are_cut(size: int) -> None:
    body = form(part("image", b"12"), part("reference", b"34")).replace(b"--b0undary\r\n", b"--b0undary   \r\n")
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(Body(*chunks), FORM) == Files(b"12", b"34")


def test_spaces_behind_a_boundary_are_refused_before_they_end() -> None:
    """The parser looks at them one by one, and would for as long as they come."""
    body = Body(part("image", b"abc") + b"--b0undary", *[b" " * 5000] * 20, complete=False)
    with pytest.raises(BadMultipart, match="followed by spaces without end"):
        read(body, FORM, max_bytes=200_000)


def test_a_content_type_longer_than_any_is_refused_unread() -> None:
    """To take it apart, the parser needs time that grows with its square."""
    with pytest.raises(BadMultipart, match="Content-Type"):
        read(Body(b"--"), f"{FORM}{';' * 60_000}")


def test_a_body_that_announces_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(UploadTooLarge, match=r"longer than the 3 MiB"):
        read(Body(complete=False), content_length=str(3 * 2**20 + 1), max_bytes=3 * 2**20)


@pytest.mark.parametrize("content_type", [None, FORM])
@pytest.mark.parametrize("content_length", [None, "5"])
def test_the_length_really_received_counts(content_type: str | None, content_length: str | None) -> None:
    body = form(part("image", b"x" * 10_000))
    with pytest.raises(UploadTooLarge):
        read(Body(body[:5000], body[5000:]), content_type, content_length=content_length)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert len(read(Body(b"x" * 6000, b"x" * 4000), content_length="10000").image) == 10_000


@pytest.mark.parametrize("content_type", [None, FORM])
def test_room_is_asked_for_before_each_piece_is_kept(content_type: str | None) -> None:
    body = form(part("image", b"x" * 3000))
    taken: list[int] = []
    read(Body(body[:1000], body[1000:1700], body[1700:]), content_type, take=taken.append)
    assert taken == [1000, 700, len(body) - 1700]

    def full(_size: int) -> None:
        raise Overloaded("no room")

    with pytest.raises(Overloaded):
        read(Body(body), content_type, take=full)
    with pytest.raises(Overloaded):  # or nobody would have asked before the form was read
        read(Body(b"no form"), FORM, take=full)


@pytest.mark.parametrize("is_form", [False, True], ids=["raw", "form"])
def test_a_large_body_is_in_memory_only_once(is_form: bool) -> None:
    image = bytes(2**24)
    body = form(part("image", image)) if is_form else image
    pieces = iter(range(0, len(body), 2**16))

    async def receive() -> Message:
        start = next(pieces)
        return {"type": "http.request", "body": body[start : start + 2**16], "more_body": start + 2**16 < len(body)}

    headers = [(b"content-type", FORM.encode())] if is_form else []
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)

    async def traced() -> tuple[Files, int]:
        later = time.monotonic() + 60
        tracemalloc.start()
        parts = await receive_files(request, max_bytes=2**25, take=lambda _: None, slow_at=later, deadline=later)
        return parts, tracemalloc.get_traced_memory()[1]

    parts, peak = asyncio.run(traced())
    tracemalloc.stop()
    assert parts.image == image
    assert peak < 1.5 * len(image)


@pytest.mark.parametrize("content_type", [None, FORM])
def test_a_body_that_stalls_is_too_slow(content_type: str | None) -> None:
    with pytest.raises(UploadTooSlow):
        read(Body(b"--", complete=False), content_type, slow_after_s=0.02)


def test_a_deadline_that_comes_first_is_the_reason_given() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        read(Body(b"ab", complete=False), slow_after_s=600, deadline_after_s=0.02)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("content_type", [None, FORM])
def test_a_caller_who_leaves_in_the_middle_is_known_to_have_left(content_type: str | None) -> None:
    with pytest.raises(ClientDisconnect):
        read(Body(b"--", complete=False, leaves=True), content_type)


tokens = st.sampled_from(
    [
        b"--",
        BOUNDARY.encode(),
        b"\r\n",
        b"\n",
        b"\r",
        b"Content-Disposition: form-data",
        b'; name="image"',
        b"; name=",
        b'; filename="x"',
        b"; filename*=UTF-8''%ff",
        b"Content-Type: image/png; charset=nonsense",
        b": ",
        b"\x00\xff",
        part("image", b"abc"),
        part("image", b"abc", filename=None),
    ]
)


@given(chunks=st.lists(st.one_of(tokens, st.binary(max_size=20)), max_size=25), header=st.binary(max_size=30))
def test_any_form_is_read_or_refused_with_one_of_our_errors(chunks: Sequence[bytes], header: bytes) -> None:
    for content_type in (FORM, "multipart/form-data; boundary=" + header.decode("latin-1")):
        try:
            parts = read(Body(*chunks), content_type)
        except AlnetError:
            continue
        assert isinstance(parts.image, bytes)

"""From a request's body to the bytes of an image and its reference: bounded in size and time, and only in memory."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import BadMultipart, DeadlineExceeded, UploadTooLarge, UploadTooSlow

MAX_FILES = 4
MAX_FIELDS = 8
MAX_FIELD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """What a body held."""

    image: bytes
    reference: bytes | None = None


async def receive_parts(request: Request, *, max_bytes: int, slow_at: float, deadline: float) -> Parts:
    """Read the request's body: the parts of a form, or one image as it is.

    `slow_at` and `deadline` are times of the event loop's clock.

    Raises:
        UploadTooLarge: the body is, or says that it is, longer than `max_bytes`.
        UploadTooSlow: it had not arrived at `slow_at`.
        DeadlineExceeded: it had not arrived at `deadline`, which came first.
        BadMultipart: the form is broken, cut off, or without exactly one file `image`.
        ClientDisconnect: the caller hung up.
    """
    _refuse_announced_size(request.headers, max_bytes)
    try:
        async with asyncio.timeout_at(min(slow_at, deadline)):
            if _is_form(request.headers):
                return await _read_form(request, max_bytes)
            return Parts(b"".join([chunk async for chunk in _bounded(request, max_bytes)]))
    except TimeoutError:
        if deadline < slow_at:
            raise DeadlineExceeded("the request's time ran out while its body was arriving") from None
        raise UploadTooSlow("the body did not arrive in time; send it faster, or a smaller one") from None


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data"


def _refuse_announced_size(headers: Headers, max_bytes: int) -> None:
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body's chunks; the length really received counts, whatever the headers say."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"the body is longer than the {max_bytes / 2**20:g} MiB that this service accepts")


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, but uploads never reach the disk, and a form that was cut off is known as such."""

    spool_max_size = 0  # no limit: SpooledTemporaryFile then never rolls over into a file
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _read_form(request: Request, max_bytes: int) -> Parts:
    parser = _InMemoryParser(
        request.headers,
        _bounded(request, max_bytes),
        max_files=MAX_FILES,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadMultipart(f"the form cannot be read: {error.message}") from error
    try:
        if not parser.is_complete:
            raise BadMultipart("the form ends before its last boundary")
        image = await _read_file(form, "image")
        if image is None:
            raise BadMultipart("the form has no file `image`; name the part `image`, or send the image as the body")
        return Parts(image, await _read_file(form, "reference"))
    finally:
        await form.close()


async def _read_file(form: FormData, name: str) -> bytes | None:
    """Return the content of the form's file `name`, or None if there is none."""
    match form.getlist(name):
        case []:
            return None
        case [UploadFile() as file]:
            return await file.read()
        case [_]:
            raise BadMultipart(f"`{name}` must be a file: give the part a filename")
        case _:
            raise BadMultipart(f"`{name}` was sent more than once")

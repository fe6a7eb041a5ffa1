"""From a request's body to the bytes of an image and its reference: bounded in size and time, and only in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from service.api.multipart import FormReader
from service.errors import DeadlineExceeded, UploadTooLarge, UploadTooSlow


@dataclass(frozen=True, slots=True)
class Files:
    """What a body held."""

    image: bytes
    reference: bytes | None = None


async def receive_files(
    request: Request, *, max_bytes: int, take: Callable[[int], None], slow_at: float, deadline: float
) -> Files:
    """Read the request's body: the files of a form, or one image as it is.

    `take` is called with the length of each chunk before it is kept, and raises if there is no room for it. `slow_at`
    and `deadline` are times of the event loop's clock.

    Raises:
        UploadTooLarge: the body is longer than `max_bytes`, or announced to be.
        UploadTooSlow: it had not arrived by `slow_at`.
        DeadlineExceeded: it had not arrived by `deadline`, which came first.
        BadMultipart: the form is broken, cut off, or without exactly one file `image`.
        ClientDisconnect: the caller hung up.
        Overloaded: `take` raised it.
    """
    _refuse_announced_size(request.headers, max_bytes)
    try:
        async with (
            asyncio.timeout_at(min(slow_at, deadline)),
            aclosing(_chunks(request.receive, max_bytes, take)) as chunks,
        ):
            if _is_form(request.headers):
                return await _read_form(request.headers["content-type"], chunks)
            return Files(await _read_whole(chunks))
    except TimeoutError:
        if deadline < slow_at:
            raise DeadlineExceeded("the request's time ran out while its body was arriving") from None
        raise UploadTooSlow("the body did not arrive in time; send it faster, or a smaller one") from None


def _refuse_announced_size(headers: Headers, max_bytes: int) -> None:
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data"


async def _chunks(receive: Receive, max_bytes: int, take: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """Yield the body's chunks; the length actually received counts, whatever the headers say."""
    received, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        has_more = message.get("more_body", False)
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        take(len(chunk))
        yield chunk


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"the body is longer than the {max_bytes / 2**20:g} MiB that this service accepts")


async def _read_whole(chunks: AsyncGenerator[bytes, None]) -> bytes:
    whole = BytesIO()  # copies each piece as it comes, and returns them as one without another copy
    async for chunk in chunks:
        whole.write(chunk)
    return whole.getvalue()


async def _read_form(content_type: str, chunks: AsyncGenerator[bytes, None]) -> Files:
    form = FormReader(content_type)
    async for chunk in chunks:
        form.feed(chunk)
    return Files(*form.finish())

"""What is written in one go is sent in one, in order and whole, also when the connection is closed at once."""

import asyncio
from collections.abc import Iterable

import pytest

from service.api.joined_writes import JoinedWrites

pytestmark = pytest.mark.anyio


class _Transport(asyncio.Transport):
    """Keeps what each sending sent; nothing of it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closing = False

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        assert not self.closing
        self.sent.append(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.sent))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


async def test_a_head_and_its_body_are_sent_as_one_before_the_event_loop_goes_on() -> None:
    transport = _Transport()
    joined = JoinedWrites(transport)
    joined.write(b"head")
    joined.write(b"body")
    assert (transport.sent, joined.get_write_buffer_size()) == ([], 8)
    await asyncio.sleep(0)
    assert (transport.sent, joined.get_write_buffer_size()) == ([b"headbody"], 8)
    joined.write(b"next")
    await asyncio.sleep(0)
    assert transport.sent == [b"headbody", b"next"]


async def test_what_is_complete_can_be_sent_at_once_and_is_sent_once() -> None:
    transport = _Transport()
    joined = JoinedWrites(transport)
    joined.write(b"head")
    joined.write(b"body")
    joined.send()
    assert transport.sent == [b"headbody"]
    joined.send()
    joined.write(b"next")
    await asyncio.sleep(0)
    assert transport.sent == [b"headbody", b"next"]


async def test_what_was_written_is_sent_before_the_connection_closes() -> None:
    transport = _Transport()
    joined = JoinedWrites(transport)
    joined.write(b"last")
    assert not joined.is_closing()
    joined.close()
    assert (transport.sent, joined.is_closing()) == ([b"last"], True)
    await asyncio.sleep(0)
    assert transport.sent == [b"last"]


async def test_to_a_connection_that_was_lost_nothing_is_sent() -> None:
    transport = _Transport()
    joined = JoinedWrites(transport)
    joined.write(b"late")
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.sent == []

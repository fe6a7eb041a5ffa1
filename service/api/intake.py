"""What a connection takes in: bytes that wait to be parsed, and whether more are read."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

NOTHING = memoryview(b"")


class Intake(FlowControl):
    """uvicorn's flow control, but nothing more is read while it `is_full`.

    uvicorn reads on whenever an app waits for a message, even if only to learn that its caller has left. So while a
    request is answered, everything that its caller sends would be read in.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.unparsed = NOTHING
        self.is_full = False

    def add(self, data: bytes) -> None:
        """Append what was read to what waits already."""
        self.unparsed = memoryview(self.unparsed.tobytes() + data if self.unparsed else data)

    def drop(self, size: int) -> None:
        """Release the first `size` bytes: they are parsed."""
        self.unparsed = self.unparsed[size:] or NOTHING  # an empty view would keep the whole buffer in memory

    def resume_reading(self) -> None:
        """Read on, unless the intake is full."""
        if not self.is_full:
            super().resume_reading()

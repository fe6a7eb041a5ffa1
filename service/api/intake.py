"""What a connection takes in: bytes that wait to be parsed, and whether more are read."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

NOTHING = memoryview(b"")


class Intake(FlowControl):
    """uvicorn's flow control, but nothing more is read while it `is_full`.

    uvicorn reads on whenever an app waits for a message, be it only for its caller's leaving: while one app answers,
    all that its caller sends would come in.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.unparsed = NOTHING
        self.is_full = False

    def add(self, data: bytes) -> None:
        """Put what was read behind what waits already."""
        self.unparsed = memoryview(self.unparsed.tobytes() + data if self.unparsed else data)

    def drop(self, size: int) -> None:
        """Let go of the first bytes: they are parsed."""
        self.unparsed = self.unparsed[size:] or NOTHING  # a view of nothing would keep all that was read

    def resume_reading(self) -> None:
        """Read on, unless there is enough."""
        if not self.is_full:
            super().resume_reading()

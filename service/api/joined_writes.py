"""Sends as one an answer's head and body, which are written one after the other: each sending wakes the caller."""

import asyncio


class JoinedWrites(asyncio.Transport):
    """The transport that a connection writes to: sends together what is written before the event loop goes on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn writes nothing else
        """Send `data` in its turn, together with all that is written before the event loop goes on."""
        if not self._held:
            self._loop.call_soon(self.send)
        self._held.append(data)

    def send(self) -> None:
        """Send what was written now; for when nothing more will be written for a while."""
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)

    def close(self) -> None:
        """Close the connection once everything written has been sent."""
        self.send()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many of the bytes written are still to be sent."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

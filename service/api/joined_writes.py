"""An answer's head and body are written one after the other, and sent as one: each sending wakes the caller."""

import asyncio


class JoinedWrites(asyncio.Transport):
    """What a connection writes to: sends together what is written before the event loop goes on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn writes nothing else
        """Send it, after what was written before and with what is written until the event loop goes on."""
        if not self._held:
            self._loop.call_soon(self.send)
        self._held.append(data)

    def send(self) -> None:
        """Send now what was written: nothing more will be for a while."""
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)

    def close(self) -> None:
        """Close the connection once all that was written is taken."""
        self.send()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were written and are still to be sent."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

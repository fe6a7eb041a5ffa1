"""A caller who does not take its answer: its connection is ended, so that no answer stays in memory for good."""

import asyncio
import logging

STALLED_AFTER_S = 30.0
"""How long a caller may take for the next LEAST_BYTES of what waits for it."""

LEAST_BYTES = 16 * 1024

logger = logging.getLogger(__name__)


class UnreadAnswer:
    """Watches what a connection's transport still has to send, while told to."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin: something waits to be sent until the caller takes it."""
        self.let_go()
        left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(STALLED_AFTER_S, self._look, left)

    def let_go(self) -> None:
        """End: it has been taken, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        """Go on if some of it was taken since, else end the connection."""
        if before - self._transport.get_write_buffer_size() >= LEAST_BYTES:
            self.watch()
        else:
            logger.info("a caller did not take its answer for %g s; its connection was ended", STALLED_AFTER_S)
            self._transport.abort()

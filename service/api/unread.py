"""A caller who does not take its answer: its connection is ended, so that no answer stays in memory for good."""

import asyncio
import logging

from service.api.alarm import Alarm

STALLED_AFTER_S = 30.0
"""How long a caller may take for the next LEAST_BYTES of what waits for it."""

LEAST_BYTES = 16 * 1024

logger = logging.getLogger(__name__)


class UnreadAnswer:
    """Watches what a connection's transport still has to send, while told to."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._alarm = Alarm(STALLED_AFTER_S, self._look)
        self._left = 0

    def watch(self) -> None:
        """Begin: something waits to be sent until the caller takes it."""
        self._left = self._transport.get_write_buffer_size()
        self._alarm.stop()
        self._alarm.start()

    def let_go(self) -> None:
        """End: it has been taken, or the connection is gone."""
        self._alarm.stop()

    def _look(self) -> None:
        """Go on if some of it was taken since, else end the connection."""
        if self._left - self._transport.get_write_buffer_size() >= LEAST_BYTES:
            self.watch()
        else:
            logger.info("a caller did not take its answer for %g s; its connection was ended", STALLED_AFTER_S)
            self._transport.abort()

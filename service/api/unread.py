"""Ends the connection of a caller who does not take its answer, so that no answer stays in memory for good."""

import asyncio
import logging
from typing import ClassVar

from service.api.alarm import Alarm

STALLED_AFTER_S = 30.0
"""How long a caller may take for the next LEAST_BYTES of what waits for it."""

LEAST_BYTES = 16 * 1024

MOST_WAITING_BYTES = 512 * 2**20
"""Limit for all answers together that wait to be taken: an upload of 300 kB can have an answer of 60 MB, and a slow
caller keeps it for hours. Above the limit, the connection that has waited longest is ended."""

logger = logging.getLogger(__name__)


class UnreadAnswer:
    """Watches what a connection's transport still has to send, from `watch` to `let_go`."""

    waiting: ClassVar[dict["UnreadAnswer", None]] = {}
    """All that wait in this process, in the order in which they began."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._alarm = Alarm(STALLED_AFTER_S, self._look)
        self._left = 0

    def watch(self) -> None:
        """Begin to watch: something waits for the caller to take it."""
        self._left = self.unsent_bytes
        self.waiting.setdefault(self)
        self._alarm.stop()
        self._alarm.start()
        self._make_room()

    def let_go(self) -> None:
        """Watch no longer: it has been taken, or the connection is gone."""
        self.waiting.pop(self, None)
        self._alarm.stop()

    def _look(self) -> None:
        """Go on if LEAST_BYTES of it were taken since, else end the connection."""
        if self._left - self.unsent_bytes >= LEAST_BYTES:
            self.watch()
        else:
            self.end(f"a caller did not take its answer for {STALLED_AFTER_S:g} s; its connection was ended")

    @property
    def unsent_bytes(self) -> int:
        """What the transport still holds."""
        return self._transport.get_write_buffer_size()

    def _make_room(self) -> None:
        """End the connections that have waited longest, until no more waits than is allowed."""
        excess = sum(one.unsent_bytes for one in self.waiting) - MOST_WAITING_BYTES
        for one in [*self.waiting]:
            if excess <= 0:
                return
            excess -= one.unsent_bytes
            one.end("too many answers wait to be taken; the connection that waits longest was ended")

    def end(self, why: str) -> None:
        """End the connection, and say why."""
        self.let_go()
        logger.info(why)
        self._transport.abort()

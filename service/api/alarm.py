"""A timer that does something after a while, unless it is stopped before."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring` once, `seconds` after it was started, unless it is stopped before. It may be started again."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds, self._ring = seconds, ring
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer, unless it is running already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._go_off)

    def stop(self) -> None:
        """Stop the timer, if it is running."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        self._ring()

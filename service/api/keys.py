"""Who holds an API key: the digests of the key file in memory, read again when the file has changed."""

import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers

from service.api.key_file import digest_of, read_keys
from service.engine.own_thread import PROMPT_S, Attempt
from service.errors import BadSettings, KeyNeeded

LOOK_EVERY_S = 1.0
"""At most this often requests check whether the file has changed: a revoked key works no longer than that."""

FileState = tuple[int, int, int] | None

logger = logging.getLogger(__name__)


class KeyRing:
    """Knows the holders of keys. Used on the event loop's thread only.

    While the server runs, a file that is gone, damaged or cannot be read just now changes nothing: the keys that were
    read last stay, the log says why (once for each reason), and the next check tries again. A file whose disk hangs
    holds up requests only once, for `prompt_s`. `clock` gives seconds that never go back.

    Raises:
        BadSettings: at construction: the file is missing or damaged.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic, prompt_s: float = PROMPT_S) -> None:
        self._file = file
        self._clock = clock
        self._look = Attempt(self._look_at_file, prompt_s=prompt_s)
        self._looked_at = clock()
        self._state = _state_of(file)
        self._keys = read_keys(file)
        self._fault = ""
        if not self._keys:
            logger.warning("%s holds no API key: nobody can use this service before `alnet keys new`", file)

    def holder(self, headers: Headers) -> str:
        """Return the name of the key that a request carries, in `Authorization: Bearer` or else in `X-API-Key`.

        Raises:
            KeyNeeded: it carries none, or an unknown one.
        """
        self._follow_file()
        sent = _sent_key(headers)
        if not sent:
            raise KeyNeeded("send an API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`")
        digest = digest_of(sent.encode("latin-1"))
        # Every digest is compared, each in constant time: the time taken reveals neither a digest nor its place.
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise KeyNeeded("this API key is not known here: it is misspelt, or was revoked", was_sent=True)
        return found[0]

    def _follow_file(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        if self._look.is_under_way:
            self._note(f"to look at {self._file} takes over {LOOK_EVERY_S:g} s: its disk or network hangs")
        self._look()

    def _look_at_file(self) -> None:
        """Read the file if it has changed. Called in a thread of its own."""
        state = _state_of(self._file)
        if state == self._state:
            self._fault = ""
            return
        try:
            self._keys = read_keys(self._file)
        except BadSettings as error:
            self._note(str(error))
        else:
            self._state, self._fault = state, ""  # only now: an unreadable file may become readable without a change
            logger.info("API keys read anew: %d", len(self._keys))

    def _note(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            logger.error("API keys stay as they were: %s", fault)


def _state_of(file: Path) -> FileState:
    """Return a value that changes whenever the file does, or None if the file cannot be looked at."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _sent_key(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("x-api-key", "").strip()

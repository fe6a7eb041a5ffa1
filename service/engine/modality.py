"""One modality of a fleet: which version of it serves, and what became of the version that the store asks for."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from service.engine.memory import is_out_of_memory
from service.engine.own_thread import told_after
from service.engine.serving import Serving, Version
from service.errors import AlnetError, BadCheckpoint, reason
from service.store.checkpoint import Stamp
from service.store.model_store import Wanted

log = logging.getLogger(__name__)

Outcome = Literal["served", "refused"]
OUTCOMES: tuple[Outcome, ...] = ("served", "refused")
"""What can become of a version that the store asks for."""

RETRY_AFTER_S = 60.0
"""How long until a version refused through no fault of its own is tried again: memory was short, or a disk hung."""

SLOW_AFTER_S = 60.0
"""How long until the store is reported as not answering: no sound disk takes this long over a checkpoint."""

TELLING_S = 1.0
"""How long the store has to tell, once a version is loaded, whether it has gone back to the previous one."""

Ask = Callable[[], Awaitable[Wanted | AlnetError]]
"""Tells which version the store asks for now, or why that cannot be told."""

WANT_OF_MEMORY = "memory ran out"
"""Stands for every such error, so that repeats look the same: CUDA's own message has the bytes free at that moment."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the store asks for and cannot be served; `version` is None if nobody can tell which version that is."""

    version: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ModalityState:
    """Where a modality stands.

    `version` serves or, if not ready yet, is to serve; `is_pinned` says that a pin in the store is the reason. `reason`
    says why the modality is not ready. `refused` is what the store asks for and does not get, whether or not another
    version serves.
    """

    status: Literal["loading", "ready", "failed"]
    reason: str = ""
    version: str | None = None
    is_pinned: bool = False
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Tried:
    """A refused version: no look at the store tries it again until its files have changed or `again_at` has come."""

    version: str
    stamp: Stamp
    again_at: float


class Modality:
    """Follows the store: the version it asks for is loaded beside the one that serves, and swapped in if it is sound.

    `load` makes a version ready to serve, or raises. `on_checkpoint` is told once of every version that is served or
    refused. `give_back` frees the memory of a version that is gone.
    """

    def __init__(
        self,
        name: str,
        *,
        is_required: bool,
        load: Callable[["Modality", str], Awaitable[Version]],
        on_checkpoint: Callable[[str, Outcome], None],
        give_back: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        slow_after_s: float = SLOW_AFTER_S,
    ) -> None:
        self.name, self.is_required = name, is_required
        self._load, self._on_checkpoint, self._clock = load, on_checkpoint, clock
        self._give_back = give_back
        self._slow_after_s, self._slow = slow_after_s, ""
        self._state = ModalityState("loading")
        self._serving: Serving | None = None
        self._tried: _Tried | None = None
        self._told, self._outlives = "", False

    @property
    def state(self) -> ModalityState:
        """Where the modality stands."""
        if not self._slow:
            return self._state
        if self._state.status == "loading":
            return replace(self._state, reason=self._slow)
        return replace(self._state, refused=Refusal(None, self._slow))

    @property
    def serving(self) -> Serving | None:
        """What answers for the modality; None before its first version is ready."""
        return self._serving

    @property
    def fault(self) -> str:
        """What keeps the modality from answering, for people; empty if nothing does."""
        return "" if self._serving is not None else f"{self.name} {self.state.status} {self.state.reason}".strip()

    @contextmanager
    def patience(self, what: str) -> Iterator[None]:
        """Wait for the store in the block, described by `what`; if it takes long, the log and `state` say so."""
        try:
            with told_after(self._slow_after_s, partial(self._say_slow, what)):
                yield
            if self._slow:
                log.info("%s: the store answers again", self.name)
        finally:
            self._slow = ""

    async def renew(self, wanted: Wanted | AlnetError, ask: Ask) -> None:
        """Serve what the store asks for; if that is unknown or cannot be served, say why once and serve on as before.

        Loading takes seconds; `ask` tells what the store asks for by then. Returns once the version that served before
        has answered all that it began.
        """
        self._outlives = False
        if isinstance(wanted, AlnetError):
            self._tried = None
            self._refuse(None, wanted)
        elif self._serves(wanted):
            self._tried = None
            self._state = ModalityState("ready", version=wanted.version, is_pinned=wanted.is_pinned)
        else:
            if self._is_worth_trying(wanted):
                await self._try(wanted, ask)
            is_reason = self._serving is None or wanted.version == self._state.version
            self._state = replace(self._state, is_pinned=wanted.is_pinned and is_reason)

    def outlive(self) -> None:
        """Keep the current version, though the store no longer asks for any; that is logged once, and is no fault."""
        if not self._outlives:
            log.info("%s is gone from the model store; version %s serves on", self.name, self._state.version)
        self._outlives, self._tried = True, None
        self._state = replace(self._state, is_pinned=False, refused=None)

    async def close(self) -> None:
        """Answer what is queued, and end."""
        if self._serving is not None:
            await self._serving.close()

    def _say_slow(self, what: str) -> None:
        self._slow = f"{what} takes over {self._slow_after_s:g} s: the store's disk or network is slow, or hangs"
        log.warning("%s: %s", self.name, self._slow)

    def _serves(self, wanted: Wanted) -> bool:
        """Return whether `wanted` already serves, by its number and, if its card has been read, by its card."""
        serving = self._serving
        if serving is None or self._state.version != wanted.version:
            return False
        return wanted.card is None or wanted.card == serving.card

    def _is_worth_trying(self, wanted: Wanted) -> bool:
        tried = self._tried
        return (
            tried is None
            or (tried.version, tried.stamp) != (wanted.version, wanted.stamp)
            or self._clock() >= tried.again_at
        )

    async def _try(self, wanted: Wanted, ask: Ask) -> None:
        if self._serving is None and self._state.status == "loading":
            self._state = ModalityState("loading", version=wanted.version, is_pinned=wanted.is_pinned)
        try:
            version = await self._load(self, wanted.version)
        except Exception as error:  # noqa: BLE001 - one checkpoint's fault must not keep others from serving
            is_at_fault = isinstance(error, BadCheckpoint) and not error.may_pass
            again_at = float("inf") if is_at_fault else self._clock() + RETRY_AFTER_S
            self._tried = _Tried(wanted.version, wanted.stamp, again_at)
            self._refuse(wanted.version, error)
        else:
            if not await self._serves_again(ask):
                await self._serve(version, wanted)
                return
            serves = self._state.version
            log.info("%s: version %s is asked for no more, %s serves on", self.name, wanted.version, serves)
            del version
        await self._return_memory()  # after the handler, where nothing holds the error or what its calls held

    async def _serves_again(self, ask: Ask) -> bool:
        """Return whether the store asks for the current version again: then no other should serve in between."""
        if self._serving is None:
            return False
        try:
            async with asyncio.timeout(TELLING_S):
                asked = await ask()
        except Exception:  # noqa: BLE001 - for instance, no thread can be started; the next look tells
            return False
        return isinstance(asked, Wanted) and self._serves(asked)

    async def _serve(self, version: Version, wanted: Wanted) -> None:
        before = self._state.version
        if self._serving is None:
            self._serving = Serving()
            before = None
        await self._serving.swap(version)
        self._tried, self.is_required = None, True
        self._state = ModalityState("ready", version=wanted.version, is_pinned=wanted.is_pinned)
        self._on_checkpoint(self.name, "served")
        did = "another checkpoint of that number" if before == wanted.version else f"version {before}"
        log.info("%s: version %s serves%s", self.name, wanted.version, f", {did} did" if before else "")
        await self._serving.settle()
        await self._return_memory()
        if before:
            await self._serving.widen()

    async def _return_memory(self) -> None:
        """Free the memory of what is gone; if that fails now, what follows is done all the same."""
        try:
            await self._give_back()
        except Exception as error:  # noqa: BLE001 - for instance, no thread can be started for it
            log.warning("%s: memory that nobody needs any more is kept for now: %s", self.name, reason(error))

    def _refuse(self, version: str | None, error: Exception) -> None:
        """Note why what the store asks for is not served, and log it once."""
        refusal, known = Refusal(version, reason(error)), self._state.refused
        told, self._told = self._told, WANT_OF_MEMORY if is_out_of_memory(error) else refusal.reason
        if self._serving is None:
            self._state = ModalityState("failed", refusal.reason, version, refused=refusal)
        else:
            self._state = replace(self._state, refused=refusal)
        if known is not None and (known.version, told) == (version, self._told):
            return
        self._on_checkpoint(self.name, "refused")
        if self._serving is None:
            log.error("%s cannot be served: %s", self.name, refusal.reason)
        else:
            what = f"version {version}" if version else "what the store asks for"
            log.error("%s: %s is refused, %s serves on: %s", self.name, what, self._state.version, refusal.reason)

"""Where the engines of a fleet come from: a model store, which may ask for another version at any time, or a caller."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from service.engine.engine import Engine
from service.engine.loading import MakeEngine, read
from service.engine.modality import SLOW_AFTER_S, Modality
from service.engine.own_thread import in_own_thread
from service.engine.steps import Steps
from service.errors import AlnetError, BadCheckpoint
from service.store.card import Card
from service.store.checkpoint import Contents
from service.store.model_store import ModelStore, Wanted

T = TypeVar("T")

ASK_AGAIN_S = 5.0
"""While a version is slow to read, how often the store is asked whether that is still the one to be served."""


class Source(Protocol):
    """What a fleet asks for versions and their engines."""

    async def wanted(self, modality: str) -> Wanted:
        """Return which version is to be served; may take long.

        Raises:
            AlnetError: that cannot be told; the message says why.
            RuntimeError: no thread can be started to ask the store.
        """
        ...

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:
        """Return what builds the engine of a version, once everything that has to be waited for has been read.

        Raises:
            BadCheckpoint: a file is missing, unreadable or damaged; or the version is slow to read, and no longer asked
                for.
        """
        ...


class StoreSource:
    """Reads checkpoints of a model store; `make_engine` builds their engines.

    A version whose card or files take over `slow_after_s` to read is given up once the store asks for another one: a
    version that hangs must not keep one pinned in its place from being served.
    """

    def __init__(self, store: ModelStore, make_engine: MakeEngine, *, slow_after_s: float = SLOW_AFTER_S) -> None:
        self._store, self._make_engine, self._slow_after_s = store, make_engine, slow_after_s
        self._seen: dict[tuple[str, str], Wanted] = {}

    async def wanted(self, modality: str) -> Wanted:
        """See `ModelStore.wanted`; with the card added, which is read only if files have changed.

        A card that cannot be read is left to whoever loads the version. But if other files had that number before,
        nobody might load it: then the error is raised.
        """
        wanted = await self._asked(modality)
        seen = self._seen.get((modality, wanted.version))
        if seen is not None and seen.stamp == wanted.stamp:
            return replace(wanted, card=seen.card)
        reading = in_own_thread(partial(self._store.open, modality, wanted.version))
        try:
            checkpoint = await self._unless_replaced(reading, modality, wanted.version)
        except AlnetError:
            if (await self._asked(modality)).version != wanted.version:
                return await self.wanted(modality)
            if seen is not None:
                raise
            return wanted
        self._seen[modality, wanted.version] = found = replace(wanted, card=checkpoint.card)
        return found

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:
        """See `Source.read`; a store that hangs is reported."""
        with modality.patience(f"reading version {version}"):
            card, contents = await self._read(modality.name, version)
        return partial(self._make_engine, card, contents)

    async def _read(self, modality: str, version: str) -> tuple[Card, Contents]:
        return await self._unless_replaced(read(partial(self._store.open, modality, version)), modality, version)

    async def _asked(self, modality: str) -> Wanted:
        return await in_own_thread(partial(self._store.wanted, modality))

    async def _unless_replaced(self, read: Coroutine[Any, Any, T], modality: str, version: str) -> T:
        """Return what was read of a version; raise BadCheckpoint if that is slow and another version is asked for."""
        reading = asyncio.create_task(read)
        replaced = asyncio.create_task(self._another(modality, version))
        try:
            await asyncio.wait([reading, replaced], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            what = f"version {version} is still being read, and {replaced.result()} is asked for by now"
            raise BadCheckpoint(what, may_pass=True)
        finally:
            reading.cancel()
            replaced.cancel()

    async def _another(self, modality: str, version: str) -> str:
        """Return the version that is asked for, once that is no longer `version`; begin to ask when reading is slow."""
        await asyncio.sleep(self._slow_after_s)
        while True:
            with suppress(AlnetError, RuntimeError):  # RuntimeError: no thread can be started
                asked = await self._asked(modality)
                if asked.version != version:
                    return asked.version
            await asyncio.sleep(ASK_AGAIN_S)


class HandedIn:
    """Hands out ready engines, by modality."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    async def wanted(self, modality: str) -> Wanted:
        """Return the version in the engine's card."""
        return Wanted(self._engines[modality].card.version, is_pinned=False, stamp=())

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:  # noqa: ARG002 - a source's
        """See `Source.read`; nothing is left to be built."""
        return partial(_at_once, self._engines[modality.name])


def _at_once(engine: Engine) -> Steps[Engine]:
    yield from ()
    return engine

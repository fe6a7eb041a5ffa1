"""Where the engines of a fleet come from: a model store, which may ask for another version at any time, or a caller."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from service.engine.engine import Engine
from service.engine.loading import MakeEngine, read
from service.engine.modality import Modality
from service.engine.steps import Steps
from service.errors import AlnetError
from service.store.model_store import ModelStore, Wanted


class Source(Protocol):
    """What a fleet asks for versions and their engines."""

    def wanted(self, modality: str) -> Wanted:
        """Return which version is to be served; may take long, and is called in a thread of its own.

        Raises:
            AlnetError: that cannot be told; the message says why.
        """
        ...

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:
        """Return what builds the engine of a version: all that has to be waited for has been read.

        Raises:
            BadCheckpoint: a file is missing, unreadable or damaged.
        """
        ...


class StoreSource:
    """Reads checkpoints of a model store; `make_engine` builds their engines."""

    def __init__(self, store: ModelStore, make_engine: MakeEngine) -> None:
        self._store, self._make_engine = store, make_engine
        self._seen: dict[tuple[str, str], Wanted] = {}

    def wanted(self, modality: str) -> Wanted:
        """See `ModelStore.wanted`; with the card, which is read only if files have changed.

        One that cannot be read is left to whoever loads the version; unless it is another one by a number that was
        seen before, which nobody might load.
        """
        wanted = self._store.wanted(modality)
        seen = self._seen.get((modality, wanted.version))
        if seen is not None and seen.stamp == wanted.stamp:
            return replace(wanted, card=seen.card)
        try:
            found = replace(wanted, card=self._store.open(modality, wanted.version).card)
        except AlnetError:
            if seen is not None:
                raise
            return wanted
        self._seen[modality, wanted.version] = found
        return found

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:
        """See `Source.read`; a store that hangs is told."""
        with modality.patience(f"reading version {version}"):
            card, contents = await read(partial(self._store.open, modality.name, version))
        return partial(self._make_engine, card, contents)


class HandedIn:
    """Gives engines that are ready, by modality."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def wanted(self, modality: str) -> Wanted:
        """Return the version in the engine's card."""
        return Wanted(self._engines[modality].card.version, is_pinned=False, stamp=())

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:  # noqa: ARG002 - a source's
        """See `Source.read`; nothing is left to be built."""
        return partial(_at_once, self._engines[modality.name])


def _at_once(engine: Engine) -> Steps[Engine]:
    yield from ()
    return engine

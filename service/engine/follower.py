"""Following the model store: which modalities it has, and which version of each it wants served now."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from service.engine.modality import SLOW_AFTER_S, Modality
from service.engine.own_thread import in_own_thread, told_after
from service.engine.source import Source
from service.errors import AlnetError, BadCheckpoint, UnknownModality
from service.store.model_store import ModelStore, Wanted

log = logging.getLogger(__name__)

TELLING_S = 1.0
"""How long a folder has to tell whether it holds versions; one that does not tell in time is assumed to."""

NO_CHECKPOINT = "the model store holds no checkpoint"


class Follower:
    """Looks at the store every `poll_s` seconds, or once if that is 0; a modality whose files hang delays no other.

    `named` are the modalities to serve whatever the store has; None means all that it has. `add` registers a modality
    and returns it; `source` says which version of it is wanted. `forget` is told of a modality that nobody named, if it
    is gone from the store before any version of it has served. Once `is_over` returns True, looking ends.
    """

    def __init__(
        self,
        store: ModelStore,
        source: Source,
        *,
        named: Sequence[str] | None,
        poll_s: float,
        add: Callable[[str], Modality],
        forget: Callable[[str], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._store, self._source, self._named = store, source, named
        self._poll_s, self._add, self._forget, self._is_over = poll_s, add, forget, is_over
        self._known: set[str] = set()
        self._not_yet_seen: set[str] = set()
        self._asked: dict[str, asyncio.Task[bool]] = {}
        self._listed, self._seen = asyncio.Event(), asyncio.Event()
        self.fault = ""
        """Why the store gives no modalities, for people; empty if it does, or has not answered yet."""

    async def run(self) -> None:
        """Follow the store and each modality in it, until cancelled or over."""
        try:
            async with asyncio.TaskGroup() as self._looks:
                if self._named is None:
                    self._start("the list of models", self._list)
                else:
                    self._find(self._named)
                    self._listed.set()
        finally:
            self._listed.set()
            self._seen.set()

    async def wait_listed(self, timeout_s: float) -> None:
        """Return once the names of the modalities are known, or after `timeout_s`: the store may hang."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._listed.wait()

    async def wait_seen(self) -> None:
        """Return once every modality that the store had at first is ready or has failed."""
        await self._seen.wait()

    def _find(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._known:
                self._known.add(name)
                self._start(name, partial(self._look, self._add(name)))

    def _start(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        self._not_yet_seen.add(what)
        self._looks.create_task(self._again_and_again(what, look), name=f"following {what}")

    async def _again_and_again(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Look until `look` returns False: nothing is left. A fault other than a checkpoint's must not end the looking.

        Such a fault is logged in full once, not at each look while it lasts.
        """
        is_there, fault = True, ""
        while True:
            try:
                is_there, fault = await look(), ""
            except Exception as error:
                if fault != repr(error):
                    log.exception("a look at the model store has failed, what is loaded serves on")
                fault = repr(error)
            if not self._poll_s or self._is_over():
                return  # once all have returned, `run` ends and sets the events
            self._not_yet_seen.discard(what)
            if not self._not_yet_seen:
                self._seen.set()
            if not is_there:
                return
            await asyncio.sleep(self._poll_s)

    async def _list(self) -> bool:
        """Add what is new in the store; log once if it cannot be read or is empty. Always True: it is listed again."""
        try:
            with told_after(SLOW_AFTER_S, self._say_slow):
                folders = await in_own_thread(self._store.names)
            held = await asyncio.gather(*[self._may_hold(name) for name in folders])
        except BadCheckpoint as error:
            self._note(f"the model store cannot be read: {error}", "what is loaded serves on")
        else:
            names = [name for name, may_hold in zip(folders, held, strict=True) if may_hold]
            where = self._store.folder.absolute()
            self._note(
                "" if names else NO_CHECKPOINT,
                f"looked for in {where}. Publish one into it, or have ALNET_STORE name the folder that has them",
            )
            self._find(names)
        finally:
            self._listed.set()
        return True

    async def _may_hold(self, name: str) -> bool:
        """Whether a folder of the store holds versions, or does not tell in time; one that hangs hides no other."""
        if name not in self._asked:
            self._asked[name] = self._looks.create_task(self._holds(name), name=f"asking {name}")
        await asyncio.wait([self._asked[name]], timeout=TELLING_S)
        if not self._asked[name].done():
            return True
        return self._asked.pop(name).result()

    async def _holds(self, name: str) -> bool:
        try:
            return bool(await in_own_thread(partial(self._store.versions, name)))
        except Exception:  # noqa: BLE001 - for instance, memory is short; raised here, it would end `run`
            return True  # whoever looks at it is told why

    def _say_slow(self) -> None:
        self.fault = f"listing the model store takes over {SLOW_AFTER_S:g} s: its disk or network hangs"
        log.warning(self.fault)

    def _note(self, fault: str, advice: str) -> None:
        if fault and fault != self.fault:
            log.log(logging.WARNING if fault == NO_CHECKPOINT else logging.ERROR, "%s; %s", fault, advice)
        elif self.fault and not fault:
            log.info("the model store can be read, and holds checkpoints")
        self.fault = fault

    async def _look(self, modality: Modality) -> bool:
        """Ask which version is to be served, and serve it; return False if the modality is forgotten."""
        with modality.patience("asking which version is to be served"):
            wanted = await self._wanted(modality.name)
            is_gone = isinstance(wanted, UnknownModality) and await self._is_gone(modality)
        if is_gone and modality.serving is None:
            log.info("%s is gone from the model store before any version of it has served", modality.name)
            self._known.discard(modality.name)
            self._forget(modality.name)
            return False
        if is_gone:
            modality.outlive()
        else:
            await modality.renew(wanted, partial(self._wanted, modality.name))
        return True

    async def _wanted(self, name: str) -> Wanted | AlnetError:
        """Return what is to be served of a modality, or why that cannot be told."""
        try:
            return await self._source.wanted(name)
        except AlnetError as error:
            return error

    async def _is_gone(self, modality: Modality) -> bool:
        """Whether nobody named the modality, and nothing is left of it in the store.

        A store that holds nothing at all may be a volume that is away for a moment: it takes no modality away. It may
        come back at any time, so the names are asked for first: asked for last, they could come from a store that was
        still away when it was asked for versions.
        """
        if self._named is not None:
            return False
        try:
            names = await in_own_thread(self._store.names)
            held = await in_own_thread(partial(self._store.versions, modality.name))
        except BadCheckpoint:
            return False  # as far as anyone can tell
        return not held and any(name != modality.name for name in names)

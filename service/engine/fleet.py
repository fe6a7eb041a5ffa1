"""All modalities that one process serves: they follow the model store while it runs, and are drained before it ends."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Self

from service.engine.batcher import Batcher, BatchReport
from service.engine.choosing import Wish, loading
from service.engine.device import Device
from service.engine.engine import Engine, checked_predict, side_by_side
from service.engine.loading import MakeEngine, build, read, warm_up
from service.engine.memory import give_back_unused
from service.engine.modality import SLOW_AFTER_S, Modality, ModalityState, Outcome
from service.engine.own_thread import in_own_thread, told_after
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmenter, TileBatcher
from service.engine.serving import Serving, Version
from service.engine.torch_engine import give_back_unused_of_gpu, memory_held_bytes
from service.errors import AlnetError, BadCheckpoint, DeviceLost, NotReady, ShuttingDown, UnknownModality
from service.settings import Settings
from service.store.card import Card
from service.store.model_store import ModelStore, Wanted

log = logging.getLogger(__name__)

LONGEST_STEP_S = 30.0
"""What one step of loading, or the largest batch of a warm-up, may take on any machine that does its work."""

NO_CHECKPOINT = "the model store holds no checkpoint"

LISTING_S = 5.0
"""How long entering waits for the names of the modalities: a store that hangs must not keep `/livez` from answering."""


class Fleet:
    """Every modality of the model store; all share one device and one pool of threads for decoding.

    An async context manager. Entering returns as soon as the store is listed; checkpoints load one after another behind
    it, and every `store_poll_s` the store is asked what it wants served now, for each modality by itself: one whose
    files hang holds up no other. Leaving answers what is queued, and refuses with ShuttingDown what is still being
    decoded.

    `make_engine` builds the engines, by default as `service.engine.choosing` does; ready `engines` by modality, if
    handed in, are taken instead of a store. `on_batch` hears of every batch, with its modality; `on_modality` of every
    modality as soon as it is known; `on_checkpoint` of every version that is served or refused.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Mapping[str, Engine] | None = None,
        make_engine: MakeEngine | None = None,
        on_batch: Callable[[str, BatchReport], None] = lambda _modality, _report: None,
        on_modality: Callable[[str], None] = lambda _modality: None,
        on_checkpoint: Callable[[str, Outcome], None] = lambda _modality, _outcome: None,
    ) -> None:
        self._settings, self._engines = settings, engines
        self._make_engine = make_engine or _engines(settings)
        self._on_batch, self._on_modality, self._on_checkpoint = on_batch, on_modality, on_checkpoint
        self._store = ModelStore(settings.store)
        self._store_fault = ""
        self._modalities: dict[str, Modality] = {}
        self._following: asyncio.Task[None] | None = None
        self._building = asyncio.Lock()
        self._listed, self._loaded = asyncio.Event(), asyncio.Event()
        self._not_yet_seen: set[str] = set()
        self._draining = False

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._pool = self._stack.enter_context(PixelPool(self._settings.decode_threads or os.cpu_count() or 1))
        self._device = await self._stack.enter_async_context(Device("network"))
        self._stack.push_async_callback(self._close_modalities)
        self._following = asyncio.create_task(self._follow_store(), name="following the model store")
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTING_S):
                await self._listed.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        if self._following is not None:
            await asyncio.wait([self._following])
        await self._stack.aclose()

    @property
    def states(self) -> Mapping[str, ModalityState]:
        """Every modality that is, or should be, served."""
        return {name: modality.state for name, modality in self._modalities.items()}

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards of the versions that serve."""
        return {name: serving.card for name, serving in self._serving.items()}

    @property
    def is_ready(self) -> bool:
        """Every modality answers that has to, there is at least one, and new work is taken."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """What keeps this replica from being ready, for people; empty if nothing does.

        A modality that was added to the store of a ready replica is no such thing until it has once been served: a new
        checkpoint must not take replicas out of service that do their work. A batch that runs for longer than any
        caller may wait is taken for stuck, until it ends after all; a step of loading, for which nobody waits, has
        `LONGEST_STEP_S` at least.
        """
        if self._draining:
            return "shutting down"
        if self._device.failed is not None:
            return str(self._device.failed)
        if not self._modalities:
            return self._store_fault or "the model store is being listed"
        faults = [modality.fault for modality in self._modalities.values() if modality.is_required and modality.fault]
        return "; ".join(faults) or self._why_stuck

    def segmenter(self, modality: str) -> Serving:
        """Return what segments uploads of a modality; it stays the same whatever versions are swapped in.

        Raises:
            UnknownModality: it is not served; the message lists those that are.
            ShuttingDown: `drain` was called.
            NotReady: its checkpoint is loading, or could not be loaded; or nobody knows yet what the store has.
        """
        if not self._modalities and self._store_fault != NO_CHECKPOINT and not self._draining:
            raise NotReady(self.why_not_ready, retry_after_s=5)
        if modality not in self._modalities:
            known = ", ".join(self._modalities) or "none: the model store is empty"
            raise UnknownModality(f"no such modality; served are: {known}")
        if self._draining:
            raise ShuttingDown("this replica is shutting down; another one may answer", retry_after_s=5)
        wanted = self._modalities[modality]
        if wanted.serving is None:
            raise NotReady(wanted.fault, retry_after_s=5 if wanted.state.status == "loading" else 60)
        return wanted.serving

    def queued(self, modality: str) -> int:
        """Return how many uploads wait for the device."""
        return self._serving[modality].queued if modality in self._serving else 0

    @property
    def device_memory_bytes(self) -> int:
        """The GPU memory that the networks hold; 0 on the CPU."""
        return memory_held_bytes()

    def drain(self) -> None:
        """Take no new uploads and no new versions from now on; uploads that have begun are still answered."""
        self._draining = True
        if self._following is not None:
            self._following.cancel()

    async def wait_device_lost(self) -> DeviceLost:
        """Return, as soon as the device is lost, why it is."""
        return await self._device.wait_failed()

    async def wait_loaded(self) -> None:
        """Return once every modality that the store had at first is ready or has failed."""
        await self._loaded.wait()

    @property
    def _why_stuck(self) -> str:
        timeout_s = self._settings.request_timeout_s
        if (busy_s := self._device.busy_s) > timeout_s:
            return f"the device is stuck: it has been busy with one batch for {busy_s:.0f} s"
        if (step_s := self._device.background_s) > max(timeout_s, LONGEST_STEP_S):
            return f"the device is stuck: it has been busy with one step of loading for {step_s:.0f} s"
        return ""

    @property
    def _serving(self) -> Mapping[str, Serving]:
        return {name: modality.serving for name, modality in self._modalities.items() if modality.serving is not None}

    def _add(self, name: str) -> None:
        self._modalities[name] = Modality(
            name,
            is_required=not self.is_ready,
            load=self._load,
            on_checkpoint=self._on_checkpoint,
            give_back=self._give_back,
        )
        self._on_modality(name)
        self._follow(name, partial(self._look, self._modalities[name]))

    async def _give_back(self) -> None:
        """Return the memory that nobody needs any more: the host's, and then the device's."""
        await asyncio.to_thread(give_back_unused)
        with suppress(DeviceLost):
            async with self._device.turns.share(in_background=True):
                await self._device.run(give_back_unused_of_gpu, in_background=True)

    async def _close_modalities(self) -> None:
        await asyncio.gather(*[modality.close() for modality in self._modalities.values()])

    async def _follow_store(self) -> None:
        """Follow the store and each modality in it, until cancelled; if the store is not polled, only once."""
        try:
            async with asyncio.TaskGroup() as self._followers:
                for name in self._named:
                    self._add(name)
                if self._named or self._engines is not None:
                    self._listed.set()
                else:
                    self._follow("", self._list)
        finally:
            self._listed.set()
            self._loaded.set()

    def _follow(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        self._not_yet_seen.add(name)
        self._followers.create_task(self._again_and_again(name, look), name=f"following {name or 'the list of models'}")

    async def _again_and_again(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        """Look; a fault that is no checkpoint's, such as a lack of threads, must not end the looking."""
        while True:
            try:
                await look()
            except Exception:
                log.exception("a look at the model store has failed, what is loaded serves on")
            if self._engines is not None or not self._settings.store_poll_s or self._device.failed is not None:
                return  # once all have, `_follow_store` ends, and says so
            self._not_yet_seen.discard(name)
            if not self._not_yet_seen:
                self._loaded.set()
            await asyncio.sleep(self._settings.store_poll_s)

    async def _list(self) -> None:
        """Add what is new in the store; say so, once, if the store cannot be read or holds nothing."""
        slow = partial(log.warning, "listing the model store takes over %g s: its disk or network hangs", SLOW_AFTER_S)
        try:
            with told_after(SLOW_AFTER_S, slow):
                names = await in_own_thread(self._store.modalities, "listing the model store")
        except BadCheckpoint as error:
            self._note(f"the model store cannot be read: {error}", "what is loaded serves on")
        else:
            where = self._store.folder.absolute()
            self._note(
                "" if names else NO_CHECKPOINT,
                f"looked for in {where}. Publish one into it, or have ALNET_STORE name the folder that has them",
            )
            for name in names:
                if name not in self._modalities:
                    self._add(name)
        finally:
            self._listed.set()

    def _note(self, fault: str, advice: str) -> None:
        if fault and fault != self._store_fault:
            log.log(logging.WARNING if fault == NO_CHECKPOINT else logging.ERROR, "%s; %s", fault, advice)
        elif self._store_fault and not fault:
            log.info("the model store can be read, and holds checkpoints")
        self._store_fault = fault

    async def _look(self, modality: Modality) -> None:
        """Ask the store which version is to be served, and see to it."""
        with modality.patience("asking which version is to be served"):
            wanted = await in_own_thread(partial(self._wanted, modality.name), "asking the model store")
        await modality.renew(wanted)

    def _wanted(self, name: str) -> Wanted | AlnetError:
        """Return what is to be served of a modality, or why that cannot be told; runs in a thread."""
        if self._engines is not None:
            return Wanted(self._engines[name].card.version, is_pinned=False, stamp=())
        try:
            return self._store.wanted(name)
        except AlnetError as error:
            return error

    @property
    def _named(self) -> list[str]:
        """The modalities that are to be served whatever the store has; none: all that it has."""
        if self._engines is not None:
            return list(self._engines)
        asked = [name.strip() for name in self._settings.modalities.split(",")]
        return [name for name in dict.fromkeys(asked) if name]

    async def _load(self, modality: str, version: str) -> Version:
        """Return a version that is verified, compared with its probe and warm."""
        settings = self._settings
        engine, took = await self._warm_engine(modality, version)
        batcher: TileBatcher = Batcher(
            partial(checked_predict, engine),
            side_by_side=side_by_side(engine),
            device=self._device,
            max_size=max(took),
            first_costs=took,
            max_wait_s=settings.max_batch_wait_ms / 1000,
            max_queued=settings.max_queued,
            on_batch=partial(self._on_batch, modality),
        )
        max_pixels = int(settings.max_image_megapixels * 1_000_000)
        return Version(Segmenter(engine, batcher, pool=self._pool, max_pixels=max_pixels), batcher)

    async def _warm_engine(self, modality: str, version: str) -> tuple[Engine, dict[int, float]]:
        """Return the engine of a version and what its batches take: read beside others, built and warmed up in turn."""
        if self._engines is not None:
            async with self._building:
                engine = self._engines[modality]
                return engine, await warm_up(engine, self._device, self._settings.max_batch_size)
        with self._modalities[modality].patience(f"reading version {version}"):
            card, contents = await read(partial(self._store.open, modality, version))
        async with self._building:
            engine = await build(card, contents, self._make_engine, self._device)
            return engine, await warm_up(engine, self._device, self._settings.max_batch_size)


def _engines(settings: Settings) -> MakeEngine:
    return partial(loading, wish=Wish.of(settings))

"""All modalities that one process serves: they follow the model store while it runs, and are drained before it ends."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Self

from service.engine.batcher import BatchReport
from service.engine.choosing import Wish, loading
from service.engine.device import Device
from service.engine.engine import Engine
from service.engine.follower import NO_CHECKPOINT, Follower
from service.engine.loading import MakeEngine
from service.engine.memory import give_back_unused
from service.engine.modality import Modality, ModalityState, Outcome
from service.engine.own_thread import Reading, in_own_thread
from service.engine.pixel_pool import PixelPool
from service.engine.serving import Serving
from service.engine.source import HandedIn, StoreSource
from service.engine.torch_engine import give_back_unused_of_gpu, memory_held_bytes
from service.engine.version_maker import VersionMaker
from service.errors import DeviceLost, NotReady, ShuttingDown, UnknownModality
from service.settings import Settings
from service.store.card import Card
from service.store.model_store import ModelStore

LONGEST_STEP_S = 30.0
"""How long one step of loading, or the largest batch of a warm-up, may take on any machine that is not stuck."""

LISTING_S = 5.0
"""How long entering waits for the names of the modalities: a hanging store must not keep `/livez` from answering."""


class Fleet:
    """Every modality of the model store; all share one device and one pool of threads for decoding.

    An async context manager. Entering returns as soon as the store is listed; checkpoints then load one after another.
    Every `store_poll_s` the store is asked what it wants served now, for each modality separately, so that one whose
    files hang delays no other. Leaving answers what is queued, and refuses with ShuttingDown what is still being
    decoded.

    `make_engine` builds the engines, by default as `service.engine.choosing` does. Ready `engines` by modality, if
    given, are served instead of a store. `on_batch` is told of every batch, with its modality; `on_modality` of every
    modality as soon as it is known; `on_checkpoint` of every version that is served or refused. `clock` is the
    device's.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._on_batch, self._on_modality, self._on_checkpoint = on_batch, on_modality, on_checkpoint
        self._modalities: dict[str, Modality] = {}
        self._draining = False
        store = ModelStore(settings.store)
        self._source = (
            StoreSource(store, make_engine or partial(loading, wish=Wish.of(settings)))
            if engines is None
            else HandedIn(engines)
        )
        self._follower = Follower(
            store,
            self._source,
            named=_asked(settings) if engines is None else list(engines),
            poll_s=settings.store_poll_s if engines is None else 0,
            add=self._add,
            forget=self._forget,
            is_over=lambda: self._device.failed is not None,
        )
        self._following: asyncio.Task[None] | None = None
        self._device_memory = Reading(memory_held_bytes)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._pool = self._stack.enter_context(PixelPool(self._settings.decode_threads or os.cpu_count() or 1))
        self._device = await self._stack.enter_async_context(Device("network", clock=self._clock))
        self._stack.push_async_callback(self._close_modalities)
        self._pool.start_threads()
        self._device.start_threads()
        self._maker = VersionMaker(
            self._settings, self._source, device=self._device, pool=self._pool, on_batch=self._on_batch
        )
        self._following = asyncio.create_task(self._follower.run(), name="following the model store")
        await self._follower.wait_listed(LISTING_S)
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
    def engines(self) -> Mapping[str, str]:
        """What runs the versions that serve, for people: device, arithmetic and, if not plain PyTorch, the engine."""
        return {name: serving.runs_on for name, serving in self._serving.items()}

    @property
    def is_ready(self) -> bool:
        """Whether nothing keeps this replica from answering; `why_not_ready` says what might."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """What keeps this replica from being ready, for people; empty if nothing does.

        A modality that was added to the store of a ready replica does not count until it has been served once: a new
        checkpoint must not take working replicas out of service. A batch that runs for longer than any caller may wait
        counts as stuck until it ends. A step of loading, for which nobody waits, is allowed at least `LONGEST_STEP_S`.
        """
        if self._draining:
            return "shutting down"
        if self._device.failed is not None:
            return str(self._device.failed)
        if not self._modalities:
            return self._follower.fault or "the model store is being listed"
        return "; ".join(self._faults) or self._why_stuck

    def segmenter(self, modality: str) -> Serving:
        """Return what segments uploads of a modality; the object stays the same whatever versions are swapped in.

        Raises:
            UnknownModality: the modality is not served; the message lists those that are.
            ShuttingDown: `drain` was called, and the modality is served or nobody knows yet what the store has.
            NotReady: its checkpoint is loading or could not be loaded, or nobody knows yet what the store has.
        """
        is_listed = bool(self._modalities) or self._follower.fault == NO_CHECKPOINT
        if self._draining and (modality in self._modalities or not is_listed):
            raise ShuttingDown("this replica is shutting down; another one may answer", retry_after_s=5)
        if not is_listed:
            raise NotReady(self.why_not_ready, retry_after_s=5)
        if modality not in self._modalities:
            known = ", ".join(self._modalities) or "none: the model store is empty"
            raise UnknownModality(f"no such modality; served are: {known}")
        wanted = self._modalities[modality]
        if wanted.serving is None:
            raise NotReady(wanted.fault, retry_after_s=5 if wanted.state.status == "loading" else 60)
        return wanted.serving

    def queued(self, modality: str) -> int:
        """Return how many uploads of a modality wait for the device."""
        return self._serving[modality].queued if modality in self._serving else 0

    @property
    def device_memory_bytes(self) -> int:
        """The GPU memory that the networks hold; 0 on the CPU. While the driver hangs, the last figure read."""
        return self._device_memory.last()

    def drain(self) -> None:
        """Take no new uploads and no new versions from now on; uploads that have begun are still answered."""
        self._draining = True
        if self._following is not None:
            self._following.cancel()

    async def wait_device_lost(self) -> DeviceLost:
        """Wait until the device is lost, and return why."""
        return await self._device.wait_failed()

    async def wait_loaded(self) -> None:
        """Return once every modality that the store had at first is ready or has failed."""
        await self._follower.wait_seen()

    @property
    def _faults(self) -> list[str]:
        """What keeps required modalities from answering."""
        return [modality.fault for modality in self._modalities.values() if modality.is_required and modality.fault]

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

    def _add(self, name: str) -> Modality:
        modality = Modality(
            name,
            is_required=not self._modalities or bool(self._faults),
            load=self._maker.make,
            on_checkpoint=self._on_checkpoint,
            give_back=self._give_back,
        )
        self._modalities[name] = modality
        self._on_modality(name)
        return modality

    def _forget(self, name: str) -> None:
        del self._modalities[name]

    async def _give_back(self) -> None:
        """Free the memory that nobody needs any more: the host's, and then the device's."""
        await in_own_thread(give_back_unused)
        with suppress(DeviceLost):
            async with self._device.turns.share(in_background=True):
                await self._device.run(give_back_unused_of_gpu, in_background=True)

    async def _close_modalities(self) -> None:
        await asyncio.gather(*[modality.close() for modality in self._modalities.values()])


def _asked(settings: Settings) -> Sequence[str] | None:
    """Return the modalities to serve whatever the store has; None means all that it has."""
    asked = [name.strip() for name in settings.modalities.split(",")]
    return [name for name in dict.fromkeys(asked) if name] or None

"""All modalities that one process serves: loaded behind a running server, drained before it ends."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

import numpy as np

from service.engine.batcher import Batcher, BatchReport
from service.engine.device import Device
from service.engine.engine import Engine, checked_predict
from service.engine.memory import is_out_of_memory
from service.engine.segmenter import Segmenter, TileBatcher
from service.engine.torch_engine import TorchEngine, memory_held_bytes
from service.errors import AlnetError, NotReady, ShuttingDown, UnknownModality
from service.settings import Settings
from service.store.card import Card
from service.store.model_store import ModelStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModalityState:
    """Where a modality stands. `reason` says why it is not ready; `version` is None until its card was read."""

    status: Literal["loading", "ready", "failed"]
    reason: str = ""
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _Served:
    segmenter: Segmenter
    batcher: TileBatcher


class Fleet:
    """One Segmenter a modality; all share one device and one pool of threads for decoding.

    An async context manager. Entering returns at once, and checkpoints load one after another behind it; ready
    `engines` by modality, if handed in, are taken instead of the store's. Leaving answers what is queued, and refuses
    with ShuttingDown what is still being decoded. `on_batch` hears of every batch, with its modality.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Mapping[str, Engine] | None = None,
        on_batch: Callable[[str, BatchReport], None] = lambda _modality, _report: None,
    ) -> None:
        self._settings, self._engines, self._on_batch = settings, engines, on_batch
        self._store = ModelStore(settings.store)
        self._states: dict[str, ModalityState] = {}
        self._served: dict[str, _Served] = {}
        self._draining = False

    async def __aenter__(self) -> Self:
        self._states = {modality: ModalityState("loading") for modality in self._wanted()}
        self._stack = AsyncExitStack()
        workers = self._settings.decode_threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pixels")
        self._stack.callback(self._pool.shutdown, wait=False)
        self._device = await self._stack.enter_async_context(Device("network"))
        self._loading = asyncio.create_task(self._load_all(), name="loading checkpoints")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        self._loading.cancel()
        await asyncio.wait([self._loading])
        await self._stack.aclose()

    @property
    def states(self) -> Mapping[str, ModalityState]:
        """Every modality that is, or should be, served."""
        return self._states

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards of those that are ready."""
        return {modality: served.segmenter.card for modality, served in self._served.items()}

    @property
    def is_ready(self) -> bool:
        """Every modality answers, there is at least one, and new work is taken."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """What keeps this replica from being ready, for people; empty if nothing does."""
        if self._draining:
            return "shutting down"
        if not self._states:
            return "the model store holds no checkpoint"
        faults = [
            f"{name} {state.status} {state.reason}".strip()
            for name, state in self._states.items()
            if state.status != "ready"
        ]
        stopped = [f"{name} has stopped" for name, served in self._served.items() if served.batcher.failed]
        return "; ".join(faults + stopped)

    def segmenter(self, modality: str) -> Segmenter:
        """Return the modality's segmenter.

        Raises:
            UnknownModality: it is not served; the message lists those that are.
            ShuttingDown: `drain` was called.
            NotReady: its checkpoint is loading, or could not be loaded.
        """
        if modality not in self._states:
            known = ", ".join(self._states) or "none: the model store is empty"
            raise UnknownModality(f"no such modality; served are: {known}")
        if self._draining:
            raise ShuttingDown("this replica is shutting down; another one may answer", retry_after_s=5)
        if modality not in self._served:
            state = self._states[modality]
            wait_s = 5 if state.status == "loading" else 60
            raise NotReady(f"{modality} is {state.status} {state.reason}".strip(), retry_after_s=wait_s)
        return self._served[modality].segmenter

    def queued(self, modality: str) -> int:
        """Return how many uploads wait for the device."""
        return self._served[modality].batcher.queued if modality in self._served else 0

    @property
    def device_memory_bytes(self) -> int:
        """The GPU memory that the networks hold; 0 on the CPU."""
        return memory_held_bytes()

    def drain(self) -> None:
        """Take no new uploads from now on; those that have begun are still answered."""
        self._draining = True

    async def wait_loaded(self) -> None:
        """Return once every modality is ready or has failed."""
        await asyncio.shield(self._loading)

    def _wanted(self) -> list[str]:
        if self._engines is not None:
            return list(self._engines)
        asked = [name.strip() for name in self._settings.modalities.split(",") if name.strip()]
        return asked or self._store.modalities()

    async def _load_all(self) -> None:
        for modality in list(self._states):
            try:
                await self._load(modality)
            except Exception as error:  # noqa: BLE001 - one checkpoint's fault must not keep the others from serving
                reason = str(error) if isinstance(error, AlnetError) else f"{type(error).__name__}: {error}"
                self._states[modality] = ModalityState("failed", reason, self._states[modality].version)
                log.error("%s cannot be served: %s", modality, reason)  # noqa: TRY400 - the reason says it, in one line

    async def _load(self, modality: str) -> None:
        # In the device's thread, although it could be any: a second thread that has called the network keeps a second
        # team of OpenMP threads, and with more of those than cores they sleep at every barrier instead of spinning. A
        # 256×256 image on two cores took 18 ms so, and 13 ms with one team.
        engine = await self._device.run(partial(self._make_engine, modality))
        card, settings = engine.card, self._settings
        self._states[modality] = ModalityState("loading", version=card.version)
        max_size = await self._device.run(partial(_warm_up, engine, settings.max_batch_size))
        batcher: TileBatcher = Batcher(
            partial(checked_predict, engine),
            device=self._device,
            max_size=max_size,
            max_wait_s=settings.max_batch_wait_ms / 1000,
            max_queued=settings.max_queued,
            on_batch=partial(self._on_batch, modality),
        )
        max_pixels = int(settings.max_image_megapixels * 1_000_000)
        segmenter = Segmenter(engine, batcher, pool=self._pool, max_pixels=max_pixels)
        await self._stack.enter_async_context(batcher)
        self._served[modality] = _Served(segmenter, batcher)
        self._states[modality] = ModalityState("ready", version=card.version)

    def _make_engine(self, modality: str) -> Engine:
        if self._engines is not None:
            return self._engines[modality]
        settings = self._settings
        checkpoint = self._store.newest(modality)
        return TorchEngine.load(
            checkpoint, device=settings.device, precision=settings.precision, threads=settings.threads
        )


def _warm_up(engine: Engine, max_batch_size: int) -> int:
    """Run batches of 1, 2, 4 … and the largest size, so that no caller pays for a first time.

    Returns the largest size that the device's memory holds: `max_batch_size`, or less.

    Raises:
        EngineFailed: the engine cannot be run, or its answers break the contract.
    """
    height, width = engine.card.input.grid
    blank = np.zeros((height, width, 3), np.uint8)
    fits = 0
    for size in _batch_sizes(max_batch_size):
        try:
            checked_predict(engine, [blank] * size)
        except Exception as error:
            if fits == 0 or not is_out_of_memory(error):
                raise
            log.warning("%s: batches hold %d at most, memory has no room for %d", engine.card.modality, fits, size)
            return fits
        fits = size
    return fits


def _batch_sizes(largest: int) -> list[int]:
    """Return 1, 2, 4 … up to `largest`, which is the last."""
    return [1 << bit for bit in range((largest - 1).bit_length())] + [largest]

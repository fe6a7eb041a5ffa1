"""The bare engine, in a process of its own for a whole benchmark: the limit's rounds are measured there."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache

from service.benchmark.limit import Round, measure_round
from service.benchmark.uploads import Body
from service.engine import choosing
from service.engine.engine import Engine
from service.settings import Settings
from service.store.model_store import ModelStore


class Bare:
    """The engines that a server with these settings would run, one per modality, each loaded on first use."""

    def __init__(self, pool: ProcessPoolExecutor, settings: Settings) -> None:
        self._pool, self._settings = pool, settings

    def prepare(self, modality: str, bodies: Sequence[Body]) -> str:
        """Load and warm up the modality's engine, and return where it runs and in which precision: `Engine.device`.

        Raises:
            UnknownModality, BadCheckpoint, BadSettings: as `load_engine`.
            BadUpload, EngineFailed: as `measure_round`.
        """
        self.round(modality, bodies)  # the first pass of each batch size is slow, and does not count
        return self._pool.submit(_device, self._settings, modality).result()

    def round(self, modality: str, bodies: Sequence[Body]) -> Round:
        """Measure one round of the limit.

        Raises:
            BadUpload, EngineFailed: as `measure_round`; and what `load_engine` raises.
        """
        return self._pool.submit(_round, self._settings, modality, bodies).result()


@contextmanager
def bare_engines(settings: Settings) -> Iterator[Bare]:
    """Keep a process that does nothing but run engines, until the block ends."""
    spawn = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of a terminal; the command ends this one, which has nothing of its own to say.
    with ProcessPoolExecutor(1, spawn, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        yield Bare(pool, settings)


@cache
def load_engine(settings: Settings, modality: str) -> Engine:
    """Return the engine that a server with these settings would run for a modality; loaded once in each process.

    Raises:
        UnknownModality: the store has no such modality.
        BadCheckpoint, BadSettings: as `service.engine.choosing.load_engine`.
    """
    return choosing.load_engine(ModelStore(settings.store).current(modality), choosing.Wish.of(settings))


def _device(settings: Settings, modality: str) -> str:
    return load_engine(settings, modality).device


def _round(settings: Settings, modality: str, bodies: Sequence[Body]) -> Round:
    engine = load_engine(settings, modality)
    return measure_round(engine, bodies, max_batch_size=settings.max_batch_size, max_pixels=settings.max_pixels)

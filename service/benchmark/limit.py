"""The limit: what the machine could answer if serving cost nothing but the network and the pixels around it.

It is measured in the same run as the loads and in turn with them, by a process of its own. That process does what the
server does with the same uploads, by the same functions and with the same threads, but without HTTP, queue and event
loop.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.benchmark.uploads import Body
from service.engine.engine import Engine
from service.engine.image_work import ImageWork, Upload

FULL_BATCHES = 3
"""Batches of the largest size that one round times."""

Item = TypeVar("Item")
Done = TypeVar("Done")
Tile = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Seconds per upload in each stage, averaged over the uploads; nothing else runs meanwhile.

    `before_s` is for decoding and fitting, `after_s` for restoring and encoding, each in one thread. `engine_alone_s`
    is for the network on the tiles of one upload; `engine_full_s` is an upload's share of batches of the largest size.
    """

    before_s: float
    engine_alone_s: float
    engine_full_s: float
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The medians of some rounds, and what follows from them for a machine with this number of `cores`.

    `is_on_gpu`: the network takes no time on the cores, which decode and encode meanwhile.
    """

    seconds: Round
    cores: int
    is_on_gpu: bool

    @property
    def images_s(self) -> float:
        """The most images per second: full batches, and the rest spread over all cores.

        On the CPU the network needs the same cores, and the two times add up; with a GPU the longer one decides.
        """
        pixels_s = (self.seconds.before_s + self.seconds.after_s) / self.cores
        engine_s = self.seconds.engine_full_s
        return 1 / (max(engine_s, pixels_s) if self.is_on_gpu else engine_s + pixels_s)

    @property
    def alone_s(self) -> float:
        """The least time of a lone request: one stage after another."""
        return self.seconds.before_s + self.seconds.engine_alone_s + self.seconds.after_s


def limit_of(rounds: Sequence[Round], *, cores: int, is_on_gpu: bool) -> Limit:
    """Return the limit from the median of each stage over the rounds."""
    seconds = Round(
        before_s=median(one.before_s for one in rounds),
        engine_alone_s=median(one.engine_alone_s for one in rounds),
        engine_full_s=median(one.engine_full_s for one in rounds),
        after_s=median(one.after_s for one in rounds),
    )
    return Limit(seconds=seconds, cores=cores, is_on_gpu=is_on_gpu)


def measure_round(engine: Engine, bodies: Sequence[Body], *, max_batch_size: int, max_pixels: int) -> Round:
    """Time every stage of every upload once, and some full batches of their tiles, in this thread.

    Raises:
        BadUpload: an upload cannot be used.
        EngineFailed: the engine cannot be run.
    """
    work = ImageWork(engine.card, max_pixels=max_pixels)
    uploads = [Upload(image=body.content) for body in bodies]
    prepared, before_s = _timed(work.before, uploads)
    maps, alone_s = _timed(lambda one: _predict(engine, one.tiles, max_batch_size), prepared)
    _, after_s = _timed(lambda one: work.after(*one), list(zip(uploads, prepared, maps, strict=True)))
    tiles = [tile for one in prepared for tile in one.tiles]
    _, full_s = _timed(engine.predict, list(_full_batches(tiles, max_batch_size)))
    return Round(
        before_s=fmean(before_s),
        engine_alone_s=fmean(alone_s),
        engine_full_s=fmean(full_s) / max_batch_size * len(tiles) / len(uploads),
        after_s=fmean(after_s),
    )


def _timed(work: Callable[[Item], Done], items: Sequence[Item]) -> tuple[list[Done], list[float]]:
    """Do the work on one item after another; return the results, and the seconds that each took."""
    done, seconds = [], []
    for item in items:
        started = time.perf_counter()
        done.append(work(item))
        seconds.append(time.perf_counter() - started)
    return done, seconds


def _predict(engine: Engine, tiles: Sequence[Tile], max_batch_size: int) -> list[Tile]:
    """Return the maps of one upload's tiles, run in as few batches as possible."""
    starts = range(0, len(tiles), max_batch_size)
    return [map_ for start in starts for map_ in engine.predict(tiles[start : start + max_batch_size])]


def _full_batches(tiles: Sequence[Tile], size: int) -> Iterator[list[Tile]]:
    """Yield a few batches of the tiles in turn, from the start again when they run out."""
    endless = itertools.cycle(tiles)
    for _ in range(FULL_BATCHES):
        yield list(itertools.islice(endless, size))

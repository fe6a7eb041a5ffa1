"""The CUDA engine: PyTorch's network recorded once for each size of a portion, and replayed without its Python.

A forward pass of this network is about a hundred small kernels, which a GPU ends sooner than Python can launch them. A
CUDA graph launches all of them at once. Pixels go over the bus as bytes both ways, from and to pinned memory.

A batch is cut into portions, which two lanes take in turn: while one computes, the other's pixels are gathered and
sent, and its answers come back. Without that a batch of 32 spends a third of its time on copies.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine.predictor import Predictor
from service.errors import EngineFailed

T = TypeVar("T")

LANES = 2

LARGEST_PORTION = 8
"""Enough images for the kernels to fill a GPU, and few enough for the copies to overlap; a power of two."""

RUNS_BEFORE_CAPTURE = 3
"""Passes in which libraries choose their kernels and take their memory: neither may happen in a recording."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph and what it reads and writes. `sent` and `summed` are pinned; the others are on the device."""

    graph: torch.cuda.CUDAGraph
    sent: Tensor
    pixels: Tensor
    levels: Tensor
    total: Tensor
    summed: Tensor


class _Lane:
    """A stream with recordings of its own, one for each size of a portion; it runs one portion at a time."""

    def __init__(self, predictor: Predictor, grid: tuple[int, int]) -> None:
        self._predictor, self._grid = predictor, grid
        self._stream = torch.cuda.Stream(predictor.device)  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._running: tuple[Tensor, Tensor] | None = None

    def record(self, size: int) -> _Recording:
        """Record the network for `size` tiles, in this lane's own stream and memory."""
        pixels = torch.zeros((size, *self._grid, 3), dtype=torch.uint8, device=self._predictor.device)
        graph, (levels, total) = recorded(lambda: self._predictor.levels(pixels), self._stream, self._pool)
        sent = torch.zeros(pixels.shape, dtype=torch.uint8).pin_memory()
        return _Recording(graph, sent, pixels, levels, total, torch.zeros(()).pin_memory())

    def begin(self, recording: _Recording, tiles: Sequence[NDArray[np.uint8]]) -> None:
        """Send the tiles and let the device begin; `end` waits for the answer."""
        for place, tile in zip(recording.sent.numpy(), tiles, strict=True):
            np.copyto(place, tile)
        with torch.cuda.stream(self._stream):
            recording.pixels.copy_(recording.sent, non_blocking=True)
            recording.graph.replay()
            # Pinned memory that PyTorch keeps and hands out again, once nobody reads the answers any more: no copy.
            answered = torch.empty(recording.levels.shape, dtype=torch.uint8, pin_memory=True)
            answered.copy_(recording.levels, non_blocking=True)
            recording.summed.copy_(recording.total, non_blocking=True)
            self._done.record()
        self._running = answered, recording.summed

    def end(self) -> list[NDArray[np.uint8]]:
        """Wait for what was begun and return its answers, which are the caller's own.

        Raises:
            EngineFailed: the network answered with NaN.
        """
        self.settle()
        running, self._running = self._running, None
        if running is None:
            raise AssertionError("a lane is ended once for each time that it is begun")
        answered, summed = running
        if not isfinite(summed.item()):
            raise EngineFailed("the network answered with NaN")
        return list(answered.numpy())

    def settle(self) -> None:
        """Wait until the device has done what was begun, so that the buffers may be written again."""
        self._done.synchronize()


def recorded(work: Callable[[], T], stream: torch.cuda.Stream, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Record what `work` does on `stream`; return the graph, and what each replay of it writes its results into.

    `pool` is what `torch.cuda.graph_pool_handle` gave: recordings that share it must not run at a time.
    """
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    graph = torch.cuda.CUDAGraph()
    with _timed_by_cudnn():
        with torch.cuda.stream(stream):
            for _ in range(RUNS_BEFORE_CAPTURE):
                work()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            results = work()
    return graph, results


@contextmanager
def _timed_by_cudnn() -> Iterator[None]:
    """Let cuDNN time its kernels and take the fastest, as it does for each shape once, and not the likeliest.

    On an H200 a lone image of 512×512 takes 0.41 ms so, and 0.51 without; all kernels sum up in float32.
    """
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class GraphPredictor:
    """Answers as the `predictor` that it records, on a CUDA device, for tiles of `grid`.

    A size of a portion is recorded when it is first run. All calls must come from one thread.
    """

    def __init__(self, predictor: Predictor, grid: tuple[int, int], *, largest_portion: int = LARGEST_PORTION) -> None:
        self.device, self._largest = predictor.device, largest_portion
        self._lanes = [_Lane(predictor, grid) for _ in range(LANES)]
        self._recordings: dict[int, list[_Recording]] = {}

    @torch.inference_mode()
    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return 255 × calibrated probability, rounded, uint8 (h, w), for each tile of uint8 (h, w, 3).

        Raises:
            EngineFailed: the network answered with NaN.
            RuntimeError: the device could not record or run the batch; torch.OutOfMemoryError is one.
        """
        answers: list[NDArray[np.uint8]] = []
        running: deque[_Lane] = deque()
        try:
            for number, portion in enumerate(portions(tiles, self._largest)):
                if len(running) == LANES:
                    answers += running.popleft().end()
                lane = self._lanes[number % LANES]
                lane.begin(self._of_size(len(portion))[number % LANES], portion)
                running.append(lane)
            while running:
                answers += running.popleft().end()
        finally:
            for lane in running:  # after an error: what was begun still reads and writes its buffers
                lane.settle()
        return answers

    def _of_size(self, size: int) -> list[_Recording]:
        if size not in self._recordings:
            self._recordings[size] = [lane.record(size) for lane in self._lanes]
        return self._recordings[size]


def portions(
    tiles: Sequence[NDArray[np.uint8]], largest: int = LARGEST_PORTION
) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Yield the tiles in order, in portions of powers of two up to `largest`, the largest first.

    So few graphs do for all sizes of a batch, and none computes what nobody asked for.
    """
    begun = 0
    while left := len(tiles) - begun:
        size = min(largest, 1 << (left.bit_length() - 1))
        yield tiles[begun : begun + size]
        begun += size

"""The CUDA engine: the PyTorch network is recorded once for each size of a portion, and replayed without Python.

A forward pass of this network is about a hundred small kernels, which a GPU finishes sooner than Python can launch
them. A CUDA graph launches all of them at once. Pixels cross the bus as bytes both ways, from and to pinned memory.

A batch is cut into portions, which two lanes take in turn: while one computes, the other's pixels are gathered and
sent, and its answers come back. Without this, a batch of 32 spends a third of its time on copies.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Any, Protocol, TypeVar

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
"""Passes in which libraries choose kernels and allocate memory, neither of which may happen during a recording."""


MOST_LEVELS = 2.0
"""Most that an answer in a portion may differ from that for the picture alone: of 255 levels, mean over a picture.

Different cuDNN kernels round differently, by 1 level in few pixels in float16 and more in bfloat16, so a single pixel
says nothing. A recording that reads another's memory, or mixes up its images, is far beyond this."""


class Recording(Protocol):
    """The network as recorded for one size of a portion, on one lane, which runs one thing at a time."""

    def begin(self, tiles: Sequence[NDArray[np.uint8]]) -> None:
        """Send the tiles, as many as it was recorded for, and let the device begin; `end` waits for the answer."""

    def end(self) -> tuple[list[NDArray[np.uint8]], float]:
        """Wait for what was begun; return its answers, which the caller may keep, and the sum of all probabilities."""

    def settle(self) -> None:
        """Wait until the device has done what was begun, so that the buffers may be written again."""


Lane = Callable[[int], Recording]
"""Records the network for this many tiles. Recordings of different lanes may run at the same time."""


@dataclass(slots=True)
class _OnStream:
    """A graph, the stream that it runs on, and what it reads and writes; see `Recording`.

    `sent` and `summed` are pinned; `pixels`, `levels` and `total` are on the device.
    """

    graph: torch.cuda.CUDAGraph
    stream: torch.cuda.Stream
    sent: Tensor
    pixels: Tensor
    levels: Tensor
    total: Tensor
    summed: Tensor
    done: torch.cuda.Event
    answered: Tensor | None = None

    def begin(self, tiles: Sequence[NDArray[np.uint8]]) -> None:
        for place, tile in zip(self.sent.numpy(), tiles, strict=True):
            np.copyto(place, tile)
        with torch.cuda.stream(self.stream):
            self.pixels.copy_(self.sent, non_blocking=True)
            self.graph.replay()
            # Not copied: PyTorch keeps this pinned memory, and reuses it once nobody reads the answers any more.
            answered = torch.empty(self.levels.shape, dtype=torch.uint8, pin_memory=True)
            answered.copy_(self.levels, non_blocking=True)
            self.summed.copy_(self.total, non_blocking=True)
            self.done.record()
        self.answered = answered

    def end(self) -> tuple[list[NDArray[np.uint8]], float]:
        self.settle()
        answered, self.answered = self.answered, None
        if answered is None:
            raise AssertionError("a recording is ended once for each time that it is begun")
        return list(answered.numpy()), self.summed.item()

    def settle(self) -> None:
        self.done.synchronize()


@cache
def _streams(device: torch.device) -> list[tuple[torch.cuda.Stream, torch.cuda.Stream]]:
    """Return, for each lane, its stream to record on and its stream to run on: one set for all engines of a device.

    PyTorch has 32 streams, which it hands out in rotation. If each engine had its own, one would sooner or later record
    on a stream that another runs on; memory that the other frees meanwhile would be waited for in the recording, which
    is an error. One thread runs all engines, so they share streams without waiting.
    """
    stream = torch.cuda.Stream
    return [(stream(device), stream(device)) for _ in range(LANES)]  # type: ignore[no-untyped-call]


def _lane(
    predictor: Predictor, grid: tuple[int, int], recording: torch.cuda.Stream, running: torch.cuda.Stream
) -> Lane:
    """Return a lane whose recordings share their memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(size: int) -> Recording:
        pixels = torch.zeros((size, *grid, 3), dtype=torch.uint8, device=predictor.device)
        graph, (levels, total) = recorded(lambda: predictor.levels(pixels), recording, pool)
        running.wait_stream(recording)
        sent = torch.zeros(pixels.shape, dtype=torch.uint8).pin_memory()
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        return _OnStream(graph, running, sent, pixels, levels, total, torch.zeros(()).pin_memory(), done)

    return record


def recorded(work: Callable[[], T], stream: torch.cuda.Stream, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Record what `work` does on `stream`; return the graph and the results, which each replay overwrites.

    `pool` is what `torch.cuda.graph_pool_handle` gave: recordings that share it must not run at the same time.
    """
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    graph = torch.cuda.CUDAGraph()
    with _timed_by_cudnn():
        with torch.cuda.stream(stream):
            for _ in range(RUNS_BEFORE_CAPTURE):
                work()
        with _workspace_of_its_own(), torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            results = work()
    return graph, results


@contextmanager
def _workspace_of_its_own() -> Iterator[None]:
    """Have the recording take cuBLAS's workspace from the graph's own memory, so that it lives as long as the graph.

    PyTorch keeps one workspace for each stream, and frees it with the first of that stream's graphs that is freed, even
    if others still write to it (https://github.com/pytorch/pytorch/issues/193402).
    """
    torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 - it has no public name
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001


@contextmanager
def _timed_by_cudnn() -> Iterator[None]:
    """Let cuDNN time its kernels, once for each shape, and take the fastest rather than the likeliest.

    On an H200 a lone image of 512×512 takes 0.41 ms with this, and 0.51 without; all kernels sum in float32.
    """
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class GraphPredictor:
    """Answers tiles of the size of `picture` on a `device` whose `lanes` take the portions of a batch in turn.

    A size of a portion is recorded when it is first run. Its answers to the `picture` are then checked on every lane,
    because the comparison with float32 covers only a single image on the first lane. All calls must come from one
    thread.
    """

    def __init__(self, lanes: Sequence[Lane], picture: NDArray[np.uint8], device: torch.device) -> None:
        self.device, self._lanes, self._picture = device, lanes, picture
        self._recordings: dict[int, list[Recording]] = {}

    @classmethod
    def of(cls, predictor: Predictor, picture: NDArray[np.uint8]) -> "GraphPredictor":
        """Return what answers like `predictor`, which is on a CUDA device, for tiles of uint8 (h, w, 3)."""
        height, width, _ = picture.shape
        lanes = [_lane(predictor, (height, width), *streams) for streams in _streams(predictor.device)]
        return cls(lanes, picture, predictor.device)

    @torch.inference_mode()
    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return 255 × calibrated probability, rounded, uint8 (h, w), for each tile of uint8 (h, w, 3).

        Raises:
            EngineFailed: the network answered with NaN, or portions of some size are answered unlike single tiles.
            RuntimeError: the device could not record or run the batch; torch.OutOfMemoryError is one.
        """
        cut = list(portions(tiles))
        by_lane = [self._of_size(len(portion)) for portion in cut]  # all are recorded before any of them runs
        answers: list[NDArray[np.uint8]] = []
        running: deque[Recording] = deque()
        try:
            for number, (portion, recordings) in enumerate(zip(cut, by_lane, strict=True)):
                if len(running) == len(recordings):
                    answers += _ended(running.popleft())
                recording = recordings[number % len(recordings)]
                recording.begin(portion)
                running.append(recording)
            while running:
                answers += _ended(running.popleft())
        finally:
            for recording in running:  # after an error: what was begun still reads and writes its buffers
                recording.settle()
        return answers

    def _of_size(self, size: int) -> list[Recording]:
        if size not in self._recordings:
            recordings = [record(size) for record in self._lanes]
            self._compare(recordings, self._of_size(1)[0] if size > 1 else recordings[0], size)
            self._recordings[size] = recordings
        return self._recordings[size]

    def _compare(self, recordings: Sequence[Recording], single: Recording, size: int) -> None:
        """Raise EngineFailed if a recording for `size` tiles answers differently from the one for a `single` tile.

        Each tile is the picture, shifted further than the tile before, so that it shows if answers change places.
        """
        tiles = [np.roll(self._picture, number * self._picture.shape[1] // size, axis=1) for number in range(size)]
        alone = [_answers(single, [tile])[0] for tile in tiles]
        for recording in recordings:
            for found, expected in zip(_answers(recording, tiles), alone, strict=True):
                if (apart := float(np.abs(np.subtract(found, expected, dtype=np.int16)).mean())) > MOST_LEVELS:
                    raise EngineFailed(
                        f"portions of {size} are not answered as single images are: {apart:.1f} of 255 levels apart"
                    )


def _answers(recording: Recording, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    recording.begin(tiles)
    return _ended(recording)


def _ended(recording: Recording) -> list[NDArray[np.uint8]]:
    answers, total = recording.end()
    if not isfinite(total):
        raise EngineFailed("the network answered with NaN")
    return answers


def portions(tiles: Sequence[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Yield the tiles in order, in portions of powers of two up to `LARGEST_PORTION`, the largest first.

    Thus a few graphs suffice for all sizes of a batch, and none computes what nobody asked for.
    """
    begun = 0
    while left := len(tiles) - begun:
        size = min(LARGEST_PORTION, 1 << (left.bit_length() - 1))
        yield tiles[begun : begun + size]
        begun += size

"""The CUDA engine: PyTorch's network recorded once for each batch size, and replayed without its Python.

A forward pass of this network is about a hundred small kernels, which a GPU ends sooner than Python can launch them. A
CUDA graph launches all of them at once. Pixels go over the bus as bytes both ways, from and to pinned memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine.predictor import Predictor
from service.errors import EngineFailed

RUNS_BEFORE_CAPTURE = 3
"""Passes in which libraries choose their kernels and take their memory: neither may happen in a recording."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph and what it reads and writes. `sent` and `answered` are pinned; the others are on the device."""

    graph: torch.cuda.CUDAGraph
    sent: Tensor
    pixels: Tensor
    levels: Tensor
    total: Tensor
    answered: Tensor


class GraphPredictor:
    """Answers as the `predictor` that it records, on a CUDA device, for tiles of `grid`.

    Batches are filled up to the next power of two with whatever lies in the buffer: few graphs do for all sizes.
    A size is recorded when it is first run. All calls must come from one thread.
    """

    def __init__(self, predictor: Predictor, grid: tuple[int, int]) -> None:
        self.device = predictor.device
        self._predictor, self._grid = predictor, grid
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings: dict[int, _Recording] = {}

    @torch.inference_mode()
    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return 255 × calibrated probability, rounded, uint8 (h, w), for each tile of uint8 (h, w, 3).

        Raises:
            EngineFailed: the network answered with NaN.
            RuntimeError: the device could not record or run the batch; torch.OutOfMemoryError is one.
        """
        recording = self._recording(1 << (len(tiles) - 1).bit_length())
        np.stack(tiles, out=recording.sent.numpy()[: len(tiles)])
        recording.pixels.copy_(recording.sent, non_blocking=True)
        recording.graph.replay()
        recording.answered.copy_(recording.levels, non_blocking=True)
        if not bool(torch.isfinite(recording.total)):  # waits for the device, and with it for the copy before
            raise EngineFailed("the network answered with NaN")
        return list(recording.answered.numpy()[: len(tiles)].copy())

    def _recording(self, size: int) -> _Recording:
        if size not in self._recordings:
            self._recordings[size] = self._record(size)
        return self._recordings[size]

    def _record(self, size: int) -> _Recording:
        pixels = torch.zeros((size, *self._grid, 3), dtype=torch.uint8, device=self.device)
        beside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(RUNS_BEFORE_CAPTURE):
                self._predictor.levels(pixels)
        torch.cuda.current_stream(self.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            levels, total = self._predictor.levels(pixels)
        sent, answered = (torch.zeros(of.shape, dtype=torch.uint8).pin_memory() for of in (pixels, levels))
        return _Recording(graph, sent, pixels, levels, total, answered)

"""The OpenVINO engine: one checkpoint on an x86 CPU, in bfloat16, float32 or 8-bit integers. Needs the extra `cpu`.

A CPU gains little from a batch: run one after another, images find their activations in the cache. So the graph is for
one image and is compiled twice: to run alone on all threads, or several side by side, each with its share of the
threads. An answer is therefore independent of its batch mates, to the bit.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import SimpleQueue

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.engine.openvino_graph import core, said
from service.errors import EngineFailed
from service.store.card import Card

log = logging.getLogger(__name__)

HINTS = {"int8": "bf16", "bfloat16": "bf16", "float32": "f32"}
"""OpenVINO's names for the arithmetic; for int8, that of the layers that are not quantised."""

MOST_SIDE_BY_SIDE = 8
"""Most images that run at a time; each has its own activations."""


class OpenVinoEngine:
    """One published checkpoint, ready to answer; see `service.engine.engine.Engine` for the contract.

    `model` is what `to_openvino` returns, or the quantised form of it. `threads` is how many CPU threads it may use.
    `device` names the arithmetic in use, which is float32 on a CPU that OpenVINO has no bfloat16 for.

    Raises:
        EngineFailed: OpenVINO cannot compile the model for this CPU.
    """

    def __init__(self, card: Card, model: ov.Model, *, precision: str, threads: int) -> None:
        self.card = card
        self.slots = min(threads, MOST_SIDE_BY_SIDE)
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        try:
            alone = _compiled(model, precision, threads, 1)
            self.device = f"cpu {_arithmetic(alone, precision)} openvino"
            self._alone = alone.create_infer_request()
            several = _compiled(model, precision, threads, self.slots)
            for _ in range(self.slots):
                self._idle.put(several.create_infer_request())
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot compile the network for this CPU in {precision}") from said(error)

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return one probability map for each tile; see `service.engine.engine.Engine.predict`."""
        if len(tiles) > 1:
            return list(_waiting_threads().map(self.predict_beside, tiles))
        return [self._run(self._alone, tiles[0])]

    def predict_beside(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return one tile's probability map; see `service.engine.engine.EngineWithSlots.predict_beside`."""
        request = self._idle.get()
        try:
            return self._run(request, tile)
        finally:
            self._idle.put(request)

    def _run(self, request: ov.InferRequest, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            request.infer({0: tile[None]}, share_inputs=True)
        except RuntimeError as error:
            raise EngineFailed(f"{self.device} could not run an image") from said(error)
        if not np.isfinite(request.get_output_tensor(1).data):
            raise EngineFailed("the network answered with NaN")
        levels: NDArray[np.uint8] = request.get_output_tensor(0).data[0].copy()  # the next run reuses the buffer
        return levels


@cache
def _waiting_threads() -> ThreadPoolExecutor:
    """Return threads that wait while OpenVINO's own threads compute; they serve the batches of all engines."""
    return ThreadPoolExecutor(MOST_SIDE_BY_SIDE, thread_name_prefix="openvino")


def _arithmetic(compiled: ov.CompiledModel, precision: str) -> str:
    """Return the arithmetic in use if `precision` was asked for: OpenVINO silently takes another where it must."""
    if precision != "bfloat16" or compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16:
        return precision
    log.warning("OpenVINO has no bfloat16 for this CPU, and computes in float32 instead")
    return "float32"


def _compiled(model: ov.Model, precision: str, threads: int, streams: int) -> ov.CompiledModel:
    return core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # the threads share their cores with those that decode
        },
    )

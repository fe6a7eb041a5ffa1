"""The OpenVINO engine: one checkpoint on an x86 CPU, in bfloat16, float32 or 8-bit integers. Needs the extra `cpu`.

A CPU gains little by a batch: one image after another finds its activations in the cache. So the graph is that of one
image, compiled twice: to run alone on all threads, or several side by side, each with its share of the threads. An
answer is then independent of its batch mates, to the bit.
"""

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.engine.openvino_graph import core
from service.errors import EngineFailed
from service.store.card import Card

HINTS = {"int8": "bf16", "bfloat16": "bf16", "float32": "f32"}
"""OpenVINO's names of the arithmetic; for int8 that of the layers which are not quantised."""

MOST_SIDE_BY_SIDE = 8
"""Images that run at a time; each has activations of its own."""


class OpenVinoEngine:
    """One published checkpoint, ready to answer; see `service.engine.engine.Engine` for the contract.

    `model` is what `to_openvino` returns, or the quantised form of it. `threads` are those of the CPU that it may use.

    Raises:
        EngineFailed: OpenVINO cannot compile the model for this CPU.
    """

    def __init__(self, card: Card, model: ov.Model, *, precision: str, threads: int) -> None:
        self.card, self.device = card, f"cpu {precision} openvino"
        self.slots = side_by_side = min(threads, MOST_SIDE_BY_SIDE)
        try:
            self._alone = _compiled(model, precision, threads, 1).create_infer_request()
            self._compiled = _compiled(model, precision, threads, side_by_side)
            self._several = ov.AsyncInferQueue(self._compiled, side_by_side)
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot compile the network for this CPU in {precision}") from error
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        self._made, self._making = 0, threading.Lock()

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return one probability map for each tile; see `service.engine.engine.Engine.predict`."""
        try:
            answers = self._side_by_side(tiles) if len(tiles) > 1 else [self._run_alone(tiles[0])]
        except RuntimeError as error:
            raise EngineFailed(f"{self.device} could not run a batch of {len(tiles)}") from error
        return [answer.checked() for answer in answers]

    def predict_beside(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return one tile's probability map; see `service.engine.engine.EngineWithSlots.predict_beside`."""
        request = self._request()
        try:
            request.infer({0: tile[None]}, share_inputs=True)
            return _Answer.of(request).checked()
        except RuntimeError as error:
            raise EngineFailed(f"{self.device} could not run an image") from error
        finally:
            self._idle.put(request)

    def _request(self) -> ov.InferRequest:
        """Return a request that is idle; each is made when it is first needed, as it holds activations of its own."""
        with self._making:
            if self._idle.empty() and self._made < self.slots:
                self._made += 1
                return self._compiled.create_infer_request()
        return self._idle.get()

    def _run_alone(self, tile: NDArray[np.uint8]) -> "_Answer":
        self._alone.infer({0: tile[None]}, share_inputs=True)
        return _Answer.of(self._alone)

    def _side_by_side(self, tiles: Sequence[NDArray[np.uint8]]) -> "list[_Answer]":
        """Run each tile as soon as a request is free: one that a decoding thread holds up does not hold up the rest."""
        answers: dict[int, _Answer] = {}
        inputs = [tile[None] for tile in tiles]  # OpenVINO reads them where they are

        def keep(request: ov.InferRequest, number: int) -> None:
            answers[number] = _Answer.of(request)

        self._several.set_callback(keep)
        try:
            for number, pixels in enumerate(inputs):
                self._several.start_async({0: pixels}, userdata=number, share_inputs=True)
        finally:
            self._several.wait_all()
        return [answers[number] for number in range(len(tiles))]


class _Answer(NamedTuple):
    """One tile's levels, uint8 (h, w), and the sum of its probabilities."""

    levels: NDArray[np.uint8]
    total: float

    @classmethod
    def of(cls, request: ov.InferRequest) -> "_Answer":
        """Return a copy of what a request holds: its buffers are the next run's."""
        return cls(request.get_output_tensor(0).data[0].copy(), float(request.get_output_tensor(1).data))

    def checked(self) -> NDArray[np.uint8]:
        """Return the levels. Raises EngineFailed if they are no numbers."""
        if not np.isfinite(self.total):
            raise EngineFailed("the network answered with NaN")
        return self.levels


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

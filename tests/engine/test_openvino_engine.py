"""A real, tiny checkpoint in OpenVINO: it answers as PyTorch does, whatever its batch mates."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("openvino", reason="OpenVINO is not installed: the extra cpu")

from service.engine.choosing import EXACT, Wish, load_engine
from service.engine.device_loss import why_lost
from service.engine.engine import Engine
from service.engine.openvino_engine import OpenVinoEngine
from service.engine.openvino_graph import read_int8, to_openvino
from service.engine.weights import build_network, read_state
from service.errors import EngineFailed
from service.store.checkpoint import Checkpoint, Int8Model
from tests.checkpoints import publish_tiny
from tests.doubles import draw
from tests.one_thread import one_thread

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return publish_tiny(tmp_path_factory.mktemp("store"))


def engine_of(checkpoint: Checkpoint, precision: str, threads: int = 2) -> OpenVinoEngine:
    model = to_openvino(checkpoint.card, build_network(checkpoint.card, read_state(checkpoint)))
    return OpenVinoEngine(checkpoint.card, model, precision=precision, threads=threads)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> OpenVinoEngine:
    return engine_of(checkpoint, "float32")


def tiles(engine: Engine, count: int) -> list[NDArray[np.uint8]]:
    return [draw(seed, *engine.card.input.grid) for seed in range(count)]


def test_it_says_what_it_is(engine: OpenVinoEngine, checkpoint: Checkpoint) -> None:
    assert engine.card == checkpoint.card
    assert engine.device == "cpu float32 openvino"


def test_it_tells_what_it_computes_in_where_a_cpu_has_no_bfloat16(
    engine: OpenVinoEngine, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    half, asked = engine_of(checkpoint, "bfloat16"), tiles(engine, 5)
    is_rounded = not np.array_equal(half.predict(asked), engine.predict(asked))
    assert half.device == ("cpu bfloat16 openvino" if is_rounded else "cpu float32 openvino")
    assert ("no bfloat16 for this CPU" in caplog.text) is not is_rounded


def test_it_answers_as_pytorch_does_to_a_level(engine: OpenVinoEngine, checkpoint: Checkpoint) -> None:
    asked = tiles(engine, 5)
    expected = load_engine(checkpoint, EXACT).predict(asked)
    for found, exact in zip(engine.predict(asked), expected, strict=True):
        assert found.shape == engine.card.input.grid
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - exact).max() <= 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [2, 3, 8, 9])
def test_a_tile_is_answered_alike_alone_and_in_a_batch_to_the_bit(
    precision: str, count: int, checkpoint: Checkpoint
) -> None:
    several = engine_of(checkpoint, precision, threads=3)
    asked = tiles(several, count)
    for together, tile in zip(several.predict(asked), asked, strict=True):
        assert np.array_equal(together, several.predict([tile])[0])


def test_a_tile_is_answered_alike_on_a_slot_whatever_runs_beside_it(checkpoint: Checkpoint) -> None:
    engine = engine_of(checkpoint, "bfloat16", threads=3)
    assert engine.slots == 3
    asked = tiles(engine, 9)
    with ThreadPoolExecutor(engine.slots) as threads:
        beside = list(threads.map(engine.predict_beside, asked))
    for found, tile in zip(beside, asked, strict=True):
        assert np.array_equal(found, engine.predict([tile])[0])


def test_an_answer_is_the_callers_own(engine: OpenVinoEngine) -> None:
    first, second = tiles(engine, 2)
    [kept] = engine.predict([first])
    copy = kept.copy()
    engine.predict([second])
    assert np.array_equal(kept, copy)


def test_half_precision_answers_nearly_like_float32(engine: OpenVinoEngine, checkpoint: Checkpoint) -> None:
    [tile] = tiles(engine, 1)
    [half] = load_engine(checkpoint, Wish(engine="openvino", precision="bfloat16")).predict([tile])
    assert np.abs(half.astype(int) - engine.predict([tile])[0]).mean() < 0.02 * 255


def test_a_tile_of_another_size_is_an_engine_failure(engine: OpenVinoEngine) -> None:
    with pytest.raises(EngineFailed, match="could not run an image"):
        engine.predict([draw(0, 32, 32)])


def test_after_a_failure_it_answers_again(engine: OpenVinoEngine) -> None:
    good, *_ = tiles(engine, 1)
    before = engine.predict([good])[0]
    with pytest.raises(EngineFailed):
        engine.predict([good, draw(0, 32, 32)])
    assert np.array_equal(engine.predict([good])[0], before)


def test_nan_is_an_engine_failure_alone_and_beside_others(checkpoint: Checkpoint) -> None:
    network = build_network(checkpoint.card, read_state(checkpoint))
    with torch.no_grad():
        network.get_parameter("low.bias").fill_(float("nan"))
    model = to_openvino(checkpoint.card, network)
    engine = OpenVinoEngine(checkpoint.card, model, precision="float32", threads=2)
    [tile] = tiles(engine, 1)
    for run in (lambda: engine.predict([tile]), lambda: engine.predict_beside(tile)):
        with pytest.raises(EngineFailed, match="NaN"):
            run()


def test_what_is_no_model_cannot_be_read() -> None:
    with pytest.raises(EngineFailed, match="cannot read"):
        read_int8(Int8Model(graph=b"<net", constants=b""))


def test_names_in_a_file_are_not_taken_for_what_cuda_says() -> None:
    port = '<port id="0" precision="FP32"><dim>1</dim></port>'
    asked = f'<layer id="0" name="x" type="unspecified launch failure" version="opset1"><output>{port}</output></layer>'
    result = f'<layer id="1" name="y" type="Result" version="opset1"><input>{port}</input></layer>'
    edge = '<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    graph = f'<net name="n" version="11"><layers>{asked}{result}</layers><edges>{edge}</edges></net>'.encode()
    with pytest.raises(EngineFailed, match="cannot read") as caught:
        read_int8(Int8Model(graph=graph, constants=b""))
    assert "unspecified launch failure" in str(caught.value.__cause__)
    assert why_lost(caught.value) == ""


def test_versions_that_come_and_go_leave_nothing_behind(checkpoint: Checkpoint) -> None:
    process = psutil.Process()
    grown = []
    for _ in range(2):  # the first time fills caches
        before = process.memory_info().rss
        for _ in range(25):
            load_engine(checkpoint, Wish(engine="openvino", device="cpu", precision="float32"))
        grown.append((process.memory_info().rss - before) / 2**20)
    assert grown[-1] < 15  # PyTorch keeps 2 MiB of every trace

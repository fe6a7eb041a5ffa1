"""A real, tiny checkpoint on the CPU: what is loaded, what is refused, what is answered."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from service.engine.choosing import EXACT, Wish, load_engine
from service.engine.device_loss import why_lost
from service.engine.engine import Engine, EngineThatPrepares
from service.engine.predictor import Predictor
from service.engine.torch_engine import TorchEngine, pick_device, precisions
from service.engine.weights import read_state
from service.errors import BadCheckpoint, BadSettings, EngineFailed
from service.network import build_reparameterized
from service.store.card import Normalisation
from service.store.checkpoint import Checkpoint, sha256
from service.store.publish import publish
from tests.checkpoints import TINY, publish_tiny
from tests.doubles import draw
from tests.one_thread import one_thread

CPU = torch.device("cpu")
NORMALISATION = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


class Constant(nn.Module):
    """Gives every pixel the same logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, image: Tensor) -> Tensor:
        return torch.full_like(image[:, :1], self.logit)


class Failing(nn.Module):
    """Cannot be run."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, _image: Tensor) -> Tensor:
        raise self.error


def predictor(network: nn.Module, *, temperature: float = 1.0, dtype: torch.dtype = torch.float32) -> Predictor:
    return Predictor(network, NORMALISATION, temperature=temperature, device=CPU, dtype=dtype)


def test_an_exact_predictor_leaves_the_network_that_it_is_made_of_alone() -> None:
    """Training goes on with it, in its own dtype."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Dropout()).to(torch.bfloat16)
    exact = Predictor.exact(network, NORMALISATION, temperature=1.0)
    assert network.training
    assert network[0].weight.dtype == torch.bfloat16
    assert not exact.network.training
    assert {weight.dtype for weight in exact.network.parameters()} == {torch.float32}


def load_on_cpu(checkpoint: Checkpoint, precision: str = "float32") -> Engine:
    return load_engine(checkpoint, Wish(engine="torch", device="cpu", precision=precision))


def republish(checkpoint: Checkpoint, store: Path, weights: bytes, **changes: Any) -> Checkpoint:
    """Publish other weights under the same card, whose digest is theirs."""
    card = checkpoint.card.model_copy(update={"weights_sha256": sha256(weights), **changes})
    return Checkpoint.read(publish(store, card, weights))


_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return publish_tiny(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Engine:
    return load_on_cpu(checkpoint)


def tiles(engine: Engine, count: int) -> list[NDArray[np.uint8]]:
    return [draw(seed, *engine.card.input.grid) for seed in range(count)]


def test_the_engine_says_what_it_is_and_where_it_runs(engine: Engine, checkpoint: Checkpoint) -> None:
    assert engine.card == checkpoint.card
    assert engine.device == "cpu float32"


def test_a_map_of_the_grid_is_answered_for_each_tile(engine: Engine) -> None:
    maps = engine.predict(tiles(engine, 3))
    assert [map_.shape for map_ in maps] == [engine.card.input.grid] * 3
    assert {map_.dtype for map_ in maps} == {np.dtype(np.uint8)}


def test_answers_come_in_the_order_of_the_tiles(engine: Engine) -> None:
    asked = tiles(engine, 3)
    forth, back = engine.predict(asked), engine.predict(asked[::-1])
    assert all(np.array_equal(a, b) for a, b in zip(forth, back[::-1], strict=True))
    assert not np.array_equal(forth[0], forth[1])


def test_a_tile_is_answered_alike_alone_and_in_a_batch(engine: Engine) -> None:
    asked = tiles(engine, 3)
    for together, tile in zip(engine.predict(asked), asked, strict=True):
        assert np.array_equal(together, engine.predict([tile])[0])


def test_normalisation_and_sigmoid_are_the_cards(engine: Engine, checkpoint: Checkpoint) -> None:
    card, [tile] = checkpoint.card, tiles(engine, 1)
    network = build_reparameterized(card.architecture, **card.architecture_config)
    network.load_state_dict(read_state(checkpoint))
    pixels = (tile / 255.0 - np.array(card.normalisation.mean)) / np.array(card.normalisation.std)
    with torch.inference_mode():
        logits = network(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])[0, 0]
    expected = 255 * torch.sigmoid(logits).numpy()
    assert np.abs(engine.predict([tile])[0] - expected).max() <= 0.51


@pytest.mark.parametrize(("logit", "level"), [(-200.0, 0), (0.0, 128), (np.log(3.0), 191), (200.0, 255)])
def test_a_level_is_the_rounded_probability(logit: float, level: int) -> None:
    [map_] = predictor(Constant(logit)).predict([draw()])
    assert np.unique(map_).tolist() == [level]


def test_the_temperature_divides_the_logit_of_predictions_but_not_of_logits() -> None:
    cooled = predictor(Constant(2 * np.log(3.0)), temperature=2.0)
    assert np.unique(cooled.predict([draw()])[0]).tolist() == [191]
    assert cooled.logits([draw()]) == pytest.approx(2 * np.log(3.0))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_answers_nearly_like_float32(name: str, engine: Engine, checkpoint: Checkpoint) -> None:
    other, [tile] = load_on_cpu(checkpoint, name), tiles(engine, 1)
    assert other.device == f"cpu {name}"
    difference = np.abs(other.predict([tile])[0].astype(int) - engine.predict([tile])[0])
    assert difference.mean() < 0.02 * 255


def test_a_network_that_answers_nan_has_failed() -> None:
    with pytest.raises(EngineFailed, match="NaN"):
        predictor(Constant(float("nan"))).predict([draw()])


def test_what_the_device_cannot_run_is_an_engine_failure_with_its_cause(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint.card, predictor(Failing(RuntimeError("no kernel for this"))), "cpu float32")
    with pytest.raises(EngineFailed, match="batch of 2") as caught:
        engine.predict([draw()] * 2)
    assert "no kernel" in str(caught.value.__cause__)


def test_a_fault_of_cudas_stays_recognisable(checkpoint: Checkpoint) -> None:
    fault = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(EngineFailed) as caught:
        TorchEngine(checkpoint.card, predictor(Failing(fault)), "cpu float32").predict([draw()])
    assert why_lost(caught.value) == "device-side assert triggered"


def test_on_a_cpu_there_is_nothing_to_prepare(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint.card, predictor(Failing(RuntimeError("was run"))), "cpu float32")
    assert isinstance(engine, EngineThatPrepares)
    engine.prepare(2)


def test_a_lack_of_memory_is_passed_on_as_such(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint.card, predictor(Failing(torch.OutOfMemoryError())), "cpu float32")
    with pytest.raises(torch.OutOfMemoryError):
        engine.predict([draw()])


def test_truncated_weights_are_refused_though_their_digest_is_right(checkpoint: Checkpoint, tmp_path: Path) -> None:
    damaged = republish(checkpoint, tmp_path, checkpoint.read_weights()[:-100])
    with pytest.raises(BadCheckpoint, match=r"retina/1: weights\.safetensors is damaged"):
        load_on_cpu(damaged)


@pytest.mark.parametrize("weights", [b"", b"no weights at all", b"\xff" * 64])
def test_what_is_no_safetensors_archive_is_refused(checkpoint: Checkpoint, tmp_path: Path, weights: bytes) -> None:
    with pytest.raises(BadCheckpoint, match="damaged"):
        load_on_cpu(republish(checkpoint, tmp_path, weights))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_single_weight_that_is_no_number_is_refused(checkpoint: Checkpoint, tmp_path: Path, value: float) -> None:
    state = load(checkpoint.read_weights())
    next(iter(state.values())).view(-1)[0] = value
    with pytest.raises(BadCheckpoint, match="NaN or infinity"):
        load_on_cpu(republish(checkpoint, tmp_path, save(state)))


def test_weights_with_a_missing_tensor_are_refused_by_name(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = load(checkpoint.read_weights())
    name, _ = state.popitem()
    with pytest.raises(BadCheckpoint, match=rf"do not fit al-net: .*{name}"):
        load_on_cpu(republish(checkpoint, tmp_path, save(state)))


def test_weights_of_another_size_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    wider = save(build_reparameterized("al-net", **(TINY | {"context_channels": 8})).state_dict())
    with pytest.raises(BadCheckpoint, match=r"do not fit al-net: .* has shape "):
        load_on_cpu(republish(checkpoint, tmp_path, wider))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "of-a-later-version"},
        {"architecture_config": TINY | {"fusion_stride": 3}},
        {"architecture_config": {"unknown": 1}},
    ],
)
def test_a_network_that_this_version_cannot_build_is_a_bad_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadCheckpoint, match="cannot build"):
        load_on_cpu(republish(checkpoint, tmp_path, checkpoint.read_weights(), **changes))


def test_other_weights_of_the_right_shape_do_not_reproduce_the_probe(checkpoint: Checkpoint, tmp_path: Path) -> None:
    negated = {name: -tensor for name, tensor in load(checkpoint.read_weights()).items()}
    with pytest.raises(BadCheckpoint, match="does not reproduce its recorded probe: mean difference"):
        load_on_cpu(republish(checkpoint, tmp_path, save(negated)))


def test_an_asked_for_precision_is_the_only_one_tried() -> None:
    assert precisions(CPU, "float16") == ["float16"]
    assert precisions(torch.device("cuda"), "float32") == ["float32"]


def test_auto_tries_half_precision_first_on_cuda_and_float32_everywhere() -> None:
    assert precisions(torch.device("cuda"), "auto") == ["float16", "float32"]
    assert set(precisions(CPU, "auto")) - {"bfloat16"} == {"float32"}


@without_cuda
def test_cuda_without_a_cuda_device_is_a_wrong_setting() -> None:
    with pytest.raises(BadSettings, match=r"^--device cuda \(or ALNET_DEVICE=cuda\), but"):
        pick_device("cuda")


@without_cuda
def test_auto_takes_the_cpu_where_there_is_no_cuda_device() -> None:
    assert pick_device("auto") == CPU


def test_the_cpu_is_taken_if_asked_for() -> None:
    assert pick_device("cpu") == CPU


def test_the_threads_asked_for_hold_in_the_thread_that_serves_too(checkpoint: Checkpoint) -> None:
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as loader:
            loader.submit(load_engine, checkpoint, replace(EXACT, threads=before + 1)).result()
        with ThreadPoolExecutor(1) as server:
            assert server.submit(torch.get_num_threads).result() == before + 1
    finally:
        torch.set_num_threads(before)

"""Which engine serves: the order, what is passed over and why, and that a checkpoint is served at all."""

import gc
import logging
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from service.engine.choosing import ANY, EXACT, Candidate, Wish, candidates, choices, first_sound, load_engine, loading
from service.engine.engine import Engine, side_by_side
from service.engine.half_precision import cpu_precisions
from service.engine.parity import Parity, probe_difference, probe_tile
from service.engine.quality import agreement
from service.engine.steps import to_end
from service.engine.torch_engine import precisions
from service.engine.weights import build_network, read_state
from service.errors import BadCheckpoint, BadSettings, EngineFailed
from service.settings import Settings
from service.store.card import Card, Probe, TrainingImages
from service.store.checkpoint import Checkpoint, Contents, Int8Model
from tests.checkpoints import publish_tiny
from tests.one_thread import one_thread

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FLOATS = [(engine, precision) for precision in precisions(CPU, "auto") for engine in ("openvino", "torch")]
BEFORE_WHOLE = FLOATS.index(("openvino", "float32"))
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def test_a_cpu_tries_integers_then_what_it_is_fastest_in() -> None:
    found = choices(CPU, Wish(), has_int8=True, has_openvino=True)
    assert found == [("openvino", "int8"), *FLOATS]


def test_without_an_integer_form_none_is_tried() -> None:
    assert choices(CPU, Wish(), has_int8=False, has_openvino=True) == FLOATS


def test_without_openvino_pytorch_serves() -> None:
    found = choices(CPU, Wish(), has_int8=True, has_openvino=False)
    assert found == [pair for pair in FLOATS if pair[0] == "torch"]


def test_a_gpu_is_pytorchs() -> None:
    found = choices(CUDA, Wish(), has_int8=True, has_openvino=True)
    assert found == [(engine, precision) for precision in ("float16", "float32") for engine in ("cuda-graphs", "torch")]
    assert choices(CUDA, Wish(engine="torch", precision="float32"), has_int8=True, has_openvino=True) == [
        ("torch", "float32")
    ]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(engine="torch", precision="float32"), [("torch", "float32")]),
        (Wish(engine="torch", precision="float16"), [("torch", "float16")]),
        (Wish(precision="bfloat16"), [("openvino", "bfloat16"), ("torch", "bfloat16")]),
        (Wish(engine="openvino", precision="int8"), [("openvino", "int8")]),
    ],
)
def test_what_is_asked_for_is_all_that_is_tried(wish: Wish, expected: list[tuple[str, str]]) -> None:
    assert choices(CPU, wish, has_int8=True, has_openvino=True) == expected


@pytest.mark.parametrize(
    ("device", "wish", "has_int8"),
    [
        (CPU, Wish(precision="int8"), False),
        (CPU, Wish(engine="torch", precision="int8"), True),
        (CPU, Wish(engine="openvino", precision="float16"), True),
        (CUDA, Wish(engine="openvino"), True),
        (CUDA, Wish(precision="int8"), True),
        (CPU, Wish(engine="cuda-graphs"), True),
        (CPU, Wish(engine="cuda-graphs", precision="float16"), True),
    ],
)
def test_a_wish_that_nothing_fulfils_is_a_wrong_setting(device: torch.device, wish: Wish, has_int8: bool) -> None:
    with pytest.raises(BadSettings, match=f"ALNET_PRECISION={wish.precision}"):
        choices(device, wish, has_int8=has_int8, has_openvino=True)


def test_openvino_asked_for_and_missing_is_told_with_its_remedy() -> None:
    with pytest.raises(BadSettings, match=r"pip install 'alnet-service\[cpu\]'"):
        choices(CPU, Wish(engine="openvino"), has_int8=False, has_openvino=False)


def test_a_wish_is_what_the_settings_say() -> None:
    settings = Settings.read({"ALNET_ENGINE": "torch", "ALNET_PRECISION": "float32", "ALNET_THREADS": "3"})
    assert Wish.of(settings) == Wish(engine="torch", device="auto", precision="float32", threads=3)


def network_of(checkpoint: Checkpoint) -> nn.Module:
    return build_network(checkpoint.card, read_state(checkpoint))


def barely_exact(checkpoint: Checkpoint) -> Probe:
    """Return the checkpoint's probe with a tolerance that float32 meets, and half precision does not."""
    [answer] = load_engine(checkpoint, EXACT).predict([probe_tile(checkpoint.card)])
    tolerance = max(1e-9, 2 * probe_difference(checkpoint.card, answer))
    return checkpoint.card.probe.model_copy(update={"tolerance": tolerance})


def test_what_fails_the_gate_is_passed_over_with_its_reason_and_the_next_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strict = barely_exact(publish_tiny(tmp_path / "a"))
    with caplog.at_level(logging.WARNING):
        engine = load_engine(publish_tiny(tmp_path / "b", probe=strict), Wish(device="cpu"))
    assert "float32" in engine.device
    assert [record.levelname for record in caplog.records] == ["WARNING"] * BEFORE_WHOLE
    assert all("mean difference" in record.message for record in caplog.records)


def test_a_precision_that_was_asked_for_and_fails_is_a_bad_checkpoint(tmp_path: Path) -> None:
    strict = barely_exact(publish_tiny(tmp_path / "a"))
    half = Wish(engine="torch", device="cpu", precision="bfloat16")
    with pytest.raises(BadCheckpoint, match="no engine reproduces") as refused:
        load_engine(publish_tiny(tmp_path / "b", probe=strict), half)
    assert not refused.value.may_pass


def test_descriptors_of_another_version_are_a_bad_checkpoint(tmp_path: Path) -> None:
    other = TrainingImages(features=("red",), mean=(1.0,), scale=(1.0,), limit=1.0)
    with pytest.raises(BadCheckpoint, match="other features than this version computes"):
        load_engine(publish_tiny(tmp_path, training_images=other), EXACT)


@pytest.mark.parametrize(("asked", "expected"), [(2, 2), (0, 1)])
def test_an_engine_has_as_many_threads_as_were_asked_for(tmp_path: Path, asked: int, expected: int) -> None:
    try:
        load_engine(publish_tiny(tmp_path), Wish(engine="torch", device="cpu", precision="float32", threads=asked))
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(1)


@needs_openvino
def test_openvino_has_pytorchs_threads(tmp_path: Path) -> None:
    try:
        beside = side_by_side(load_engine(publish_tiny(tmp_path), Wish(engine="openvino", device="cpu", threads=3)))
        assert beside is not None
        assert beside.slots == 3
    finally:
        torch.set_num_threads(1)


def test_the_reference_is_float32_on_the_cpu(tmp_path: Path) -> None:
    assert load_engine(publish_tiny(tmp_path), EXACT).device == "cpu float32"


IMPORT_FAILS = "raise ImportError('libstdc++.so.6: version not found')"
LOAD = """
import sys
from pathlib import Path
from service.engine.choosing import Wish, load_engine
from tests.checkpoints import publish_tiny

print(load_engine(publish_tiny(Path(sys.argv[1])), Wish(device="cpu")).device)
"""


def test_a_library_that_cannot_even_be_imported_is_passed_over_and_pytorch_serves(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "openvino"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(IMPORT_FAILS)
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "store")],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(broken.parent), str(root)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("cpu ")
    assert "openvino" not in ran.stdout


def on_no_gpu(checkpoint: Checkpoint, wish: Wish = ANY) -> list[Candidate]:
    """Return what is tried where there is a GPU that runs nothing."""
    return candidates(checkpoint.card, network_of(checkpoint), checkpoint.contents(), wish, torch.device("cuda", 99))


def first_of(checkpoint: Checkpoint, *tried: Candidate) -> Engine:
    return to_end(first_sound(checkpoint.card, network_of(checkpoint), tried))


def test_a_gpu_that_runs_nothing_is_passed_over_and_the_cpu_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = publish_tiny(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert first_of(checkpoint, *on_no_gpu(checkpoint)).device.startswith("cpu ")
    assert "does not run on cuda:99 float16 torch" in caplog.text


@pytest.mark.parametrize("wish", [Wish(device="cuda"), Wish(engine="torch"), Wish(precision="float32")])
def test_a_gpu_of_which_anything_was_asked_for_is_not_replaced_by_the_cpu(wish: Wish, tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    with pytest.raises(BadCheckpoint, match="no engine"):
        first_of(checkpoint, *on_no_gpu(checkpoint, wish))


def test_on_a_cpu_nothing_is_tried_twice(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    tried = candidates(checkpoint.card, network_of(checkpoint), checkpoint.contents(), ANY, CPU)
    assert len({candidate.name for candidate in tried}) == len(tried)


def failing(error: Exception) -> Candidate:
    """Return what raises `error` as soon as it is built."""

    def build() -> Engine:
        raise error

    return Candidate("nowhere", build, masks=True)


def sound(checkpoint: Checkpoint) -> Candidate:
    return Candidate("cpu float32 torch", lambda: load_engine(checkpoint, EXACT), masks=True)


def test_what_cannot_be_built_is_passed_over_and_the_log_tells_of_that_and_of_what_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = publish_tiny(tmp_path)
    engine = load_engine(checkpoint, EXACT)
    with caplog.at_level(logging.INFO, "service.engine.choosing"):
        served = first_of(checkpoint, failing(RuntimeError("no kernel")), Candidate("cpu", lambda: engine, masks=True))
    assert served is engine
    assert caplog.messages == [
        "retina version 1 does not run on nowhere: RuntimeError: no kernel",
        "retina version 1 runs on cpu float32",
    ]


def test_float32_each_building_and_each_comparison_are_steps_of_their_own(tmp_path: Path) -> None:
    """Between two of them batches have the device."""
    checkpoint, done = publish_tiny(tmp_path), list[str]()
    network, engine = network_of(checkpoint), load_engine(checkpoint, EXACT)
    network.register_forward_hook(lambda *_: done.append("float32"))

    class Watched:
        card, device = engine.card, engine.device

        def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
            done.append("comparison")
            return engine.predict(tiles)

    def build() -> Engine:
        done.append("building")
        return Watched()

    for _ in first_sound(checkpoint.card, network, [Candidate("watched", build, masks=True)]):
        done.append("")
    assert done == ["", "float32", "", "building", "", "comparison"]


def test_a_lack_of_memory_is_no_fault_of_the_checkpoint_and_nothing_slower_serves_for_it(tmp_path: Path) -> None:
    no_room = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
    checkpoint = publish_tiny(tmp_path)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        first_of(checkpoint, failing(no_room), sound(checkpoint))


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
def test_where_nothing_could_even_be_built_the_checkpoint_is_not_to_blame(tmp_path: Path, fault: Exception) -> None:
    with pytest.raises(BadCheckpoint, match=f"no engine could be made to answer: .*{fault.args[-1]}") as refused:
        first_of(publish_tiny(tmp_path), failing(EngineFailed("no bfloat16 here")), failing(fault))
    assert refused.value.may_pass


def test_what_was_behind_an_engines_failure_is_told_and_is_not_the_checkpoints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kernels are chosen in the first batch: a driver that is short of something says so only there."""
    failed = EngineFailed("cuda:0 float16 could not run a batch of 1")
    failed.__cause__ = RuntimeError("cuDNN error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED")
    with pytest.raises(BadCheckpoint, match=r"made to answer: .*batch of 1; RuntimeError: cuDNN error") as refused:
        first_of(publish_tiny(tmp_path), failing(failed))
    assert refused.value.may_pass
    assert "SUBLIBRARY_LOADING_FAILED" in caplog.text


def test_an_engine_that_fails_on_the_network_itself_will_do_so_again(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="the network answered with NaN") as refused:
        first_of(publish_tiny(tmp_path), failing(EngineFailed("the network answered with NaN")))
    assert not refused.value.may_pass


def test_a_lost_device_is_not_passed_over(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        first_of(
            checkpoint, failing(RuntimeError("CUDA error: an illegal memory access was encountered")), sound(checkpoint)
        )


class Weights:
    """What takes up a device's memory."""


class Refused:
    """An engine that holds weights, and answers with an error or what cannot be right."""

    device = "nowhere"

    def __init__(self, card: Card, held: list[weakref.ref[Weights]], *, fails: bool) -> None:
        self.card, self.fails, self.weights = card, fails, Weights()
        held.append(weakref.ref(self.weights))

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        if self.fails:
            fault = EngineFailed("no such kernel")
            raise fault from RuntimeError("on this device")  # a circle: this call holds its error, which holds the call
        return [np.full(tile.shape[:2], 255, np.uint8) for tile in tiles]


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_refused_is_no_longer_in_memory_when_the_next_is_built(fails: bool, tmp_path: Path) -> None:
    checkpoint, held, alive = publish_tiny(tmp_path), list[weakref.ref[Weights]](), list[bool]()

    def last() -> Engine:
        alive.append(held[0]() is not None)
        return load_engine(checkpoint, EXACT)

    gc.disable()
    try:
        first_of(
            checkpoint,
            Candidate("refused", lambda: Refused(checkpoint.card, held, fails=fails), masks=True),
            Candidate("last", last, masks=True),
        )
    finally:
        gc.enable()
    assert alive == [False]


@pytest.mark.parametrize(
    ("wish", "whose"),
    [
        (ANY, {"float16", "bfloat16", "float32"}),
        (Wish(device="cuda"), {"float16", "float32"}),
        (Wish(precision="float16"), set()),
    ],
)
def test_masks_count_for_what_nobody_asked_for_by_name_and_never_for_integers(
    wish: Wish, whose: set[str], tmp_path: Path
) -> None:
    checkpoint = publish_tiny(tmp_path)
    contents = Contents(checkpoint.read_weights(), Int8Model(graph=b"", constants=b""))
    found = candidates(checkpoint.card, network_of(checkpoint), contents, wish, torch.device("cuda", 0))
    assert found
    for candidate in found:
        assert candidate.masks == any(f" {precision} " in candidate.name for precision in whose)


def with_another_mask(store: Path, half: Wish) -> Checkpoint:
    """Publish what passes its probe in every precision, with a threshold at which the mask in `half` is another."""
    probed = publish_tiny(store / "probed")
    tile = probe_tile(probed.card)
    [exact], [rounded] = (load_engine(probed, wish).predict([tile]) for wish in (EXACT, half))
    ious = {level: agreement(rounded >= level, exact >= level).iou for level in range(1, 256)}
    return publish_tiny(store / "served", threshold=min(ious, key=lambda level: ious[level]) / 255)


def fault_of_mask(checkpoint: Checkpoint, engine: Engine) -> str:
    return Parity(checkpoint.card, network_of(checkpoint)).fault(engine)


HALF = Wish(device="cpu", precision="bfloat16")


@pytest.mark.skipif(cpu_precisions()[0] != "bfloat16", reason="this CPU is not faster in bfloat16")
def test_what_has_another_mask_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = with_another_mask(tmp_path, HALF)
    with caplog.at_level(logging.WARNING):
        engine = load_engine(checkpoint, Wish(device="cpu"))
    assert "IoU" in caplog.records[0].message
    assert not fault_of_mask(checkpoint, engine)


def test_a_precision_that_was_asked_for_serves_whatever_its_mask(tmp_path: Path) -> None:
    half = Wish(engine="torch", device="cpu", precision="bfloat16")  # which computes in it on every CPU
    checkpoint = with_another_mask(tmp_path, half)
    engine = load_engine(checkpoint, half)
    assert "bfloat16" in engine.device
    assert "IoU" in fault_of_mask(checkpoint, engine)


@needs_openvino
def test_integers_serve_whatever_their_mask(tmp_path: Path) -> None:
    """A form whose probabilities are all a little higher stands for one in integers, which takes long to make."""
    checkpoint = publish_tiny(tmp_path, threshold=143 / 255)  # of which float32 answers hardly any, but 142
    contents = Contents(checkpoint.read_weights(), int8=a_little_higher(checkpoint, tmp_path))
    engine = to_end(loading(checkpoint.card, contents, Wish(device="cpu")))
    assert engine.device == "cpu int8 openvino"
    assert "IoU" in fault_of_mask(checkpoint, engine)


@needs_openvino
def test_openvino_runs_on_the_cpu_though_there_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    engine = load_engine(publish_tiny(tmp_path), Wish(engine="openvino", precision="float32"))
    assert engine.device == "cpu float32 openvino"


@needs_openvino
def test_an_integer_form_is_for_integers_alone(tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    contents = Contents(checkpoint.read_weights(), int8=Int8Model(graph=b"damaged", constants=b""))
    asked = Wish(engine="openvino", device="cpu", precision="float32")
    assert to_end(loading(checkpoint.card, contents, asked)).device == "cpu float32 openvino"


def a_little_higher(checkpoint: Checkpoint, folder: Path) -> Int8Model:
    import openvino

    from service.engine.openvino_graph import to_openvino

    network = network_of(checkpoint)
    with torch.no_grad():
        network.get_parameter("low.bias").add_(0.02)
    openvino.save_model(to_openvino(checkpoint.card, network), folder / "higher.xml", compress_to_fp16=False)
    return Int8Model(graph=(folder / "higher.xml").read_bytes(), constants=(folder / "higher.bin").read_bytes())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("wish", [Wish(engine="cuda-graphs"), Wish(device="cuda")])
def test_a_missing_gpu_is_told_by_the_setting_that_asks_for_it(wish: Wish, tmp_path: Path) -> None:
    setting = "--device cuda (or ALNET_DEVICE=cuda)" if wish.device == "cuda" else "ALNET_ENGINE=cuda-graphs"
    with pytest.raises(BadSettings, match=f"^{re.escape(setting)}, but PyTorch sees no CUDA device; use auto or "):
        load_engine(publish_tiny(tmp_path), wish)


@needs_openvino
def test_openvino_serves_where_it_is_installed(tmp_path: Path) -> None:
    assert "openvino" in load_engine(publish_tiny(tmp_path), Wish(device="cpu", precision="float32")).device

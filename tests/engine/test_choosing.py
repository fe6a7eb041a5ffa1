"""Which engine serves: the order, what is passed over and why, and that a checkpoint is served at all."""

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from service.engine import choosing
from service.engine.choosing import EXACT, Wish, choices, load_engine
from service.engine.engine import Engine
from service.engine.parity import probe_difference, probe_tile
from service.engine.torch_engine import precisions
from service.errors import BadCheckpoint, BadSettings
from service.settings import Settings
from service.store.card import Probe
from service.store.checkpoint import Checkpoint
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
    with pytest.raises(BadCheckpoint, match="no engine reproduces"):
        load_engine(publish_tiny(tmp_path / "b", probe=strict), half)


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


def test_a_gpu_that_runs_nothing_is_passed_over_and_the_cpu_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choosing, "pick_device", lambda _name: torch.device("cuda", 99))
    with caplog.at_level(logging.WARNING):
        assert load_engine(publish_tiny(tmp_path)).device.startswith("cpu ")
    assert "does not run on cuda:99 float16 torch" in caplog.text


def test_a_gpu_that_was_asked_for_is_not_replaced_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "pick_device", lambda _name: torch.device("cuda", 99))
    with pytest.raises(BadCheckpoint, match="no engine"):
        load_engine(publish_tiny(tmp_path), Wish(device="cuda"))


def test_a_lack_of_memory_is_no_fault_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> Engine:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr(choosing, "_builder", lambda *_: no_room)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        load_engine(publish_tiny(tmp_path), Wish(device="cpu"))


def test_a_lost_device_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> Engine:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(choosing, "_builder", lambda *_: fault)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        load_engine(publish_tiny(tmp_path), Wish(device="cpu"))


@needs_openvino
def test_openvino_serves_where_it_is_installed(tmp_path: Path) -> None:
    assert "openvino" in load_engine(publish_tiny(tmp_path), Wish(device="cpu", precision="float32")).device

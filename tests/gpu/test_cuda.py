"""What only a machine with a CUDA device can show; skipped elsewhere."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.benchmark.roofline import measure_roofline
from service.engine.choosing import EXACT, Wish, load_engine
from service.engine.torch_engine import give_back_unused_of_gpu
from service.store.checkpoint import Checkpoint
from service.training.config import configure
from service.training.job import run
from tests.checkpoints import publish_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_the_gpu_answers_as_the_cpu_does(precision: str, tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    on_gpu = load_engine(checkpoint, Wish(device="cuda", precision=precision))
    on_cpu = load_engine(checkpoint, EXACT)
    tiles = list(np.random.default_rng(0).integers(0, 256, (5, *checkpoint.card.input.grid, 3), np.uint8))
    for found, expected in zip(on_gpu.predict(tiles), on_cpu.predict(tiles), strict=True):
        assert np.abs(found.astype(int) - expected).mean() < 2


def test_an_answer_on_the_gpu_is_that_of_the_image_alone_to_the_rounding_of_other_kernels(tmp_path: Path) -> None:
    engine = load_engine(publish_tiny(tmp_path), Wish(device="cuda"))
    tiles = list(np.random.default_rng(0).integers(0, 256, (4, *engine.card.input.grid, 3), np.uint8))
    alone = [engine.predict([tile])[0] for tile in tiles]
    for found, expected in zip(engine.predict(tiles), alone, strict=True):
        assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_recorded_graphs_answer_as_the_plain_engine_in_any_order_of_batch_sizes(precision: str, tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path)
    plain, recorded = (
        load_engine(checkpoint, Wish(engine=engine, device="cuda", precision=precision))
        for engine in ("torch", "cuda-graphs")
    )
    assert "cuda-graphs" in recorded.device
    tiles = list(np.random.default_rng(0).integers(0, 256, (32, *checkpoint.card.input.grid, 3), np.uint8))
    for size in (1, 3, 8, 2, 9, 1, 5, 7, 25, 32, 7):
        for found, expected in zip(recorded.predict(tiles[:size]), plain.predict(tiles[:size]), strict=True):
            assert np.abs(found.astype(int) - expected).max() <= 2


def test_graphs_answer_the_same_once_the_graphs_of_another_version_are_gone() -> None:
    """All record on the same streams, and what a library keeps for a stream must not go with the first of them."""
    checkpoint = Checkpoint.read(max((Path(__file__).parents[2] / "model_store" / "cell").glob("[0-9]*")))
    staying, going = (load_engine(checkpoint, Wish(engine="cuda-graphs")) for _ in range(2))
    tiles = list(np.random.default_rng(0).integers(0, 256, (8, *checkpoint.card.input.grid, 3), np.uint8))
    expected = [answer.copy() for answer in staying.predict(tiles)]
    going.predict(tiles)
    del going
    gc.collect()
    give_back_unused_of_gpu()
    taken = torch.full((2**28,), 255, dtype=torch.uint8, device="cuda")  # what was let go of is another's now
    for found, before in zip(staying.predict(tiles), expected, strict=True):
        assert np.array_equal(found, before)
    assert bool((taken == 255).all())


def test_an_answer_of_a_graph_is_the_callers_own(tmp_path: Path) -> None:
    engine = load_engine(publish_tiny(tmp_path), Wish(engine="cuda-graphs"))
    first, second = np.random.default_rng(0).integers(0, 256, (2, *engine.card.input.grid, 3), np.uint8)
    [kept] = engine.predict([first])
    copy = kept.copy()
    engine.predict([second])
    assert np.array_equal(kept, copy)


def test_the_roofline_times_every_stage_as_the_gpu_serves_it(tmp_path: Path) -> None:
    found = measure_roofline(publish_tiny(tmp_path), device="cuda", batch=2)
    assert found.precision == "float16"
    assert all(stage.seconds > 0 and found.floor_s(stage) > 0 for stage in found.stages)
    assert "fusion" in [stage.name for stage in found.stages]


def test_a_short_training_on_the_gpu_publishes(tmp_path: Path) -> None:
    changes = {"epochs": 2, "steps_per_epoch": 2, "crop_px": 64}
    config = configure("drawn:skin:8", "skin", "quick", changes)
    result = run(config, tmp_path / "run", tmp_path / "store", lambda _line: None)
    assert result is not None
    assert (tmp_path / "store" / "skin" / "1" / "weights.safetensors").is_file()


TRIP_A_DEVICE_SIDE_ASSERT = """
import sys
from pathlib import Path
import numpy as np
import torch
from service.engine.predictor import Predictor
from service.engine.torch_engine import TorchEngine
from service.errors import DeviceLost
from tests.checkpoints import publish_tiny

class OutOfRange(torch.nn.Module):
    def forward(self, image):
        return image[:, :1] + torch.zeros(8, device=image.device)[torch.full((1,), 10**6, device=image.device)]

card = publish_tiny(Path(sys.argv[1])).card
cuda = torch.device("cuda")
predictor = Predictor(OutOfRange(), card.normalisation, temperature=1.0, device=cuda, dtype=torch.float32)
try:
    TorchEngine(card, predictor, "cuda float32").predict([np.zeros((*card.input.grid, 3), np.uint8)])
except DeviceLost:
    print("lost")
"""


def test_after_a_device_side_assert_the_engine_says_that_its_device_is_lost(tmp_path: Path) -> None:
    ran = subprocess.run(  # in a process of its own: no other test could use CUDA afterwards
        [sys.executable, "-c", TRIP_A_DEVICE_SIDE_ASSERT, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "lost" in ran.stdout.split(), ran.stderr

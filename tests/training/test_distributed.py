"""Two processes under torchrun, over gloo: they share the work, agree, and leave what one process would leave."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from service.training.run_folder import SPLIT
from service.training.state import STATE
from tests.training.alnet_train import ENVIRONMENT, OPTIONS, TORCHRUN, Run, RunOfTwo, train
from tests.training.another_run import another_run
from tests.training.folders import images_and_masks
from tests.training.tiny_fit import Fit, Network, config

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")


def _fit_by_two(folder: Path, changes: Mapping[str, object]) -> list[dict[str, Any]]:
    command = [*TORCHRUN, "-m", "tests.training.recorded_fit", str(folder), json.dumps(changes)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=ENVIRONMENT, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_bytes()) for rank in (0, 1)]


def test_two_processes_share_each_epoch_and_agree_on_the_weights(tmp_path: Path) -> None:
    epochs, views = 12, 24
    changes = {"epochs": epochs, "steps_per_epoch": None, "learning_rate": 0.02, "average": 0.9}
    first, second = _fit_by_two(tmp_path, changes)
    for epoch in range(epochs):
        ours, theirs = ([tuple(key) for key in found["seen"] if key[0] == epoch] for found in (first, second))
        assert len(ours) == len(theirs) == views // 2
        assert sorted(item for _, _, item in chain(ours, theirs)) == list(range(views))
    assert (first["validations"], second["validations"]) == (epochs, 0)

    of_rank_0, of_rank_1 = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert "average.layers.0.weight" in of_rank_0
    for name, tensor in of_rank_0.items():
        assert torch.equal(tensor, of_rank_1[name]), name

    (tmp_path / "alone").mkdir()
    alone = Fit(config(**changes | {"batch_size": 4}), tmp_path / "alone", Network(dropout=0))
    _, progress = alone.run()
    assert progress.best_iou > 0.6
    assert first["best_iou"] == pytest.approx(progress.best_iou, abs=0.1)
    assert sorted(item for _, _, item in alone.seen) == sorted(
        item for _, _, item in chain(first["seen"], second["seen"])
    )


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory: pytest.TempPathFactory) -> RunOfTwo:
    """The tiny run of `undisturbed`, by two processes."""
    run = RunOfTwo(tmp_path_factory.mktemp("two"))
    done = train(run)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("caution: ")]
    assert [line.split()[0] for line in lines] == ["drawn:retina:", *["epoch"] * 4, "published", "best"], lines
    return run


def test_the_job_of_two_processes_leaves_what_that_of_one_leaves(undisturbed: Run, run_of_two: RunOfTwo) -> None:
    splits = [json.loads((run.path / SPLIT).read_bytes()) for run in (undisturbed, run_of_two)]
    assert splits[0] == splits[1]
    for one, two in zip(undisturbed.epochs(), run_of_two.epochs(), strict=True):
        assert one["learning_rate"] == two["learning_rate"]
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=0.1)
        assert float(two["validation_accuracy"]) == pytest.approx(float(one["validation_accuracy"]), abs=0.05)
    assert _names(run_of_two.path) == _names(undisturbed.path)
    assert _names(run_of_two.store) == _names(undisturbed.store)
    assert run_of_two.card().data == undisturbed.card().data


@needs_proc
def test_a_process_that_dies_ends_the_job_and_the_same_command_goes_on(tmp_path: Path, run_of_two: RunOfTwo) -> None:
    disturbed = RunOfTwo(tmp_path)
    with subprocess.Popen(disturbed.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as job:
        assert job.stdout is not None
        for said in job.stdout:
            if said.startswith(b"epoch 1/4"):
                os.kill(_process_of_rank(1, job.pid), signal.SIGKILL)
                break
        job.communicate(timeout=300)
    assert job.returncode not in {0, None}
    assert (disturbed.path / STATE).exists()
    assert not (disturbed.path / "checkpoint").exists()
    assert not disturbed.store.exists()
    done_before = len(disturbed.epochs())
    assert 1 <= done_before < 4

    resumed = train(disturbed)
    assert resumed.returncode == 0, resumed.stderr
    said_now = [line.split()[1] for line in resumed.stdout.splitlines() if line.startswith("epoch")]
    assert said_now == [f"{epoch}/4" for epoch in range(done_before + 1, 5)]
    assert disturbed.epochs() == run_of_two.epochs()


def test_an_error_ends_the_job_with_its_message_and_leaves_nothing(tmp_path: Path) -> None:
    run = RunOfTwo(tmp_path)
    failed = train(run, "--learning-rate", "1e30")
    assert failed.returncode != 0
    assert "smaller --learning-rate" in failed.stderr
    assert not run.store.exists()
    assert not (run.path / STATE).exists()


def test_what_all_processes_find_is_told_once(tmp_path: Path) -> None:
    run = RunOfTwo(tmp_path)
    refused = train(run, "--network-option", "colour=1")
    assert refused.returncode != 0
    assert refused.stderr.count("alnet: al-net does not take this configuration") == 1


def test_a_folder_in_use_ends_all_processes(tmp_path: Path) -> None:
    run = RunOfTwo(tmp_path)
    with another_run(run.path):
        refused = train(run)
    assert refused.returncode != 0
    assert "is in use by another run" in refused.stderr
    assert not (run.path / SPLIT).exists()


def test_uneven_nodes_are_refused(tmp_path: Path) -> None:
    """As the second node would see it, if torchrun started two processes here and one there."""
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "service.cli", "train", "--data", "drawn:retina:8", "--run", str(tmp_path / "run")]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT | torchrun)
    assert failed.returncode == 2
    assert "start as many on every node" in failed.stderr


def test_nodes_that_read_other_data_are_refused(tmp_path: Path) -> None:
    """As where a copy of the data was not at its end: from what is left another split would be made."""
    names = [f"image-{number}" for number in range(8)]
    folders = [images_and_masks(tmp_path / "one" / "data", names), images_and_masks(tmp_path / "other" / "data", names)]
    for part in ("images", "masks"):
        (folders[1] / part / "image-2.png").unlink()
    options = (*("--modality", "my", "--run-folder", str(tmp_path / "run"), "--no-publish"), *OPTIONS[2:])
    command = [*TORCHRUN, "-m", "tests.training.two_nodes", *map(str, folders), "train", *options]
    refused = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT, cwd=REPOSITORY
    )
    assert refused.returncode != 0
    assert "alnet: rank 1 finds other images, masks or names of them in --data than rank 0" in refused.stderr
    assert "[rank0]: Traceback" not in refused.stderr  # it is only that rank 1 has gone
    assert not (tmp_path / "run" / STATE).exists()


def _names(folder: Path) -> set[str]:
    """Return the names of all files below, those of TensorBoard's without the time in them."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(file.parent if "tfevents" in file.name else file) for file in files}


def _process_of_rank(rank: int, torchrun: int) -> int:
    """Return the id of the process to which `torchrun` gave that rank."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    wanted = f"RANK={rank}".encode()
    (found,) = [child for child in children if wanted in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")]
    return int(found)


def test_processes_that_find_different_arithmetics_faster_take_that_of_rank_0() -> None:
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.training.opinions"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    said = re.findall(r"rank \d of \d: (?:bfloat16|float32)", done.stdout)  # both may come to stand in one line
    assert sorted(said) == ["rank 0 of 2: bfloat16", "rank 1 of 2: bfloat16"]

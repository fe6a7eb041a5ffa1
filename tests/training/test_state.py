"""The resumable state: whole at any moment, complete, and refused where it does not belong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim import Adam, Optimizer

from service.errors import BadConfig
from service.training.average import WeightAverage
from service.training.state import EpochRecord, Progress, load_state, make_alike, save_state, write_atomically
from tests.store.syncs import noted_syncs
from tests.training.alnet_train import ENVIRONMENT
from tests.training.full_disk import no_file_above

RECORD = EpochRecord(0, 0.01, 1.2, 0.4, 0.9, 3.0)

KILLED_WHILE_WRITING = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.optim import Adam
from service.training.state import EpochRecord, Progress, load_state, save_state

path = Path(sys.argv[1])
network = nn.Linear(1000, 1000)
optimizer = Adam(network.parameters())

def write(epochs):
    nn.init.constant_(network.weight, epochs)
    save_state(path, network, optimizer, Progress([EpochRecord(n, 0.1, 1.0, None, None, 1.0) for n in range(epochs)]))

write(1)
for kill in range(12):
    writer = os.fork()
    if not writer:
        for epochs in itertools.cycle(range(1, 4)):
            write(epochs)
    time.sleep(random.Random(kill).uniform(0.02, 0.2))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    progress = load_state(path, network, optimizer)
    assert bool((network.weight == progress.next_epoch).all()), kill
"""


def _trained(seed: int = 0) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    optimizer = Adam(network.parameters(), lr=0.1)
    _step(network, optimizer)
    return network, optimizer


def _step(network: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    network(torch.arange(192.0).reshape(1, 3, 8, 8) / 192).square().mean().backward()
    optimizer.step()


def test_killed_at_any_moment_of_its_writing_the_state_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "state.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_what_is_restored_goes_on_exactly_as_what_was_saved(tmp_path: Path) -> None:
    network, optimizer = _trained()
    progress = Progress([RECORD, EpochRecord(1, 0.01, 1.1, None, None, 2.5)], best_epoch=0, best_iou=0.4)
    save_state(tmp_path / "state", network, optimizer, progress)
    other_network, other_optimizer = _trained(seed=1)
    assert load_state(tmp_path / "state", other_network, other_optimizer) == progress
    for _ in range(3):
        _step(network, optimizer)
        _step(other_network, other_optimizer)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other_network.state_dict()[name]), name


def test_moments_are_restored_in_their_parameters_memory_layout(tmp_path: Path) -> None:
    network, optimizer = _trained()
    save_state(tmp_path / "state", network, optimizer, Progress())
    load_state(tmp_path / "state", network, optimizer)
    for parameter, moments in optimizer.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()
        assert moments["step"].ndim == 0


def test_an_average_is_restored_with_its_steps(tmp_path: Path) -> None:
    network, optimizer = _trained()
    average = WeightAverage(network, 0.9)
    _step(network, optimizer)
    average.update()
    save_state(tmp_path / "state", network, optimizer, Progress(), average)
    other_network, other_optimizer = _trained(seed=1)
    other = WeightAverage(other_network, 0.9)
    load_state(tmp_path / "state", other_network, other_optimizer, other)
    assert other.steps == 1
    for one in (average, other):
        one.update()
    for name, tensor in average.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


def test_a_state_without_an_average_is_refused_where_one_is_to_go_on(tmp_path: Path) -> None:
    network, optimizer = _trained()
    save_state(tmp_path / "state", network, optimizer, Progress())
    with pytest.raises(BadConfig, match="no state of this run"):
        load_state(tmp_path / "state", network, optimizer, WeightAverage(network, 0.9))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no safetensors",
        bytes(64),
        save({"network.weight": torch.ones(1)}),
        save({"network.weight": torch.ones(1)}, {"of": "another program"}),
    ],
    ids=["empty", "text", "zeros", "weights alone", "another program's"],
)
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(BadConfig, match=f"{path} is no state of this run"):
        load_state(path, *_trained())


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    save_state(tmp_path / "state", network, Adam(network.parameters()), Progress())
    with pytest.raises(BadConfig, match="no state of this run"):
        load_state(tmp_path / "state", *_trained())


def test_time_left_is_what_the_epochs_so_far_took() -> None:
    assert Progress([RECORD, RECORD]).seconds_left(epochs=10) == 8 * 3.0
    assert Progress([RECORD]).seconds_left(epochs=1) == 0


def test_epochs_of_a_quarter_of_the_pixels_count_a_quarter() -> None:
    assert Progress([RECORD, RECORD]).seconds_left(epochs=10, coarse_epochs=4) == 3.0 * (2 + 6 * 4)
    assert Progress([RECORD] * 5).seconds_left(epochs=10, coarse_epochs=4) == pytest.approx(5 * 3.0 / 2 * 5)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.draft").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_state_and_no_draft(tmp_path: Path) -> None:
    network, optimizer = _trained()
    save_state(tmp_path / "state", network, optimizer, Progress([RECORD]))
    with no_file_above(500), pytest.raises(OSError, match=f"too large: '{tmp_path / 'state'}'"):
        save_state(tmp_path / "state", network, optimizer, Progress([RECORD, RECORD]))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert load_state(tmp_path / "state", *_trained(seed=1)).next_epoch == 1


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = noted_syncs(monkeypatch, tmp_path)
    write_atomically(tmp_path / "file", b"content")
    assert syncs == [(tmp_path / ".file.draft", b"content")]


def test_a_draft_that_another_user_left_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / ".state.draft").write_bytes(b"half")
    with (tmp_path / ".state.draft").open("rb") as others:
        write_atomically(tmp_path / "state", b"whole")
        assert others.read() == b"half"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


@pytest.mark.parametrize(("mode", "inside"), [(0o2775, 0o2775), (0o700, 0o700), (0o1777, 0o755)])
def test_who_may_write_into_a_folder_may_write_into_those_that_are_made_in_it(
    mode: int, inside: int, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)
    before = os.umask(0o022)
    try:
        make_alike(tmp_path / "samples")
        make_alike(tmp_path / "samples")
    finally:
        os.umask(before)
    assert (tmp_path / "samples").stat().st_mode & 0o7777 == inside

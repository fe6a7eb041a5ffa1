"""TensorBoard's scalars, read back from the event files: each epoch once, however the run went."""

import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from service.training.state import EpochRecord, Progress
from service.training.tensorboard import ScalarLog

Scalars = dict[tuple[str, int], float]


def _records(count: int) -> list[EpochRecord]:
    """Return epochs of which every second one was validated."""
    return [
        EpochRecord(epoch, 0.1 / (epoch + 1), 1.5 - epoch, 0.5 + epoch / 10, 0.9, 60.0)
        if epoch % 2
        else EpochRecord(epoch, 0.1 / (epoch + 1), 1.5 - epoch, None, None, 60.0)
        for epoch in range(count)
    ]


def _events(folder: Path) -> Iterator[Event]:
    """Yield the events of all files: records of length (8 bytes), checksum (4), content and checksum (4)."""
    for file in sorted(folder.iterdir()):
        content, start = file.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            yield Event.FromString(content[start + 12 : start + 12 + length])
            start += length + 16


def _scalars(folder: Path) -> Scalars:
    found = [(value.tag, event.step, value.simple_value) for event in _events(folder) for value in event.summary.value]
    assert len({(tag, step) for tag, step, _ in found}) == len(found)
    return {(tag, step): value for tag, step, value in found}


def _write(folder: Path, *counts: int) -> Scalars:
    """Record a run's progress after each of so many epochs, in one process."""
    with closing(ScalarLog(folder)) as log:
        for count in counts:
            log.record(Progress(_records(count)))
    return _scalars(folder)


def test_every_epoch_has_its_scalars_and_validated_ones_their_scores(tmp_path: Path) -> None:
    found = _write(tmp_path / "run" / "tensorboard", 1, 2)
    assert found == pytest.approx(
        {
            ("loss/train", 1): 1.5,
            ("learning_rate", 1): 0.1,
            ("seconds", 1): 60.0,
            ("loss/train", 2): 0.5,
            ("learning_rate", 2): 0.05,
            ("seconds", 2): 60.0,
            ("validation/IoU", 2): 0.6,
            ("validation/accuracy", 2): 0.9,
        }
    )


def test_an_epoch_can_be_read_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    with closing(ScalarLog(tmp_path)) as log:
        log.record(Progress(_records(1)))
        assert ("loss/train", 1) in _scalars(tmp_path)


def test_a_resumed_run_has_the_same_scalars_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = _write(tmp_path / "undisturbed", 1, 2, 3, 4)
    _write(tmp_path / "resumed", 1, 2, 3)
    (file,) = (tmp_path / "resumed").iterdir()
    file.write_bytes(file.read_bytes()[:-9])  # killed while it wrote, and after its last state
    assert _write(tmp_path / "resumed", 3, 4) == undisturbed
    assert len(list((tmp_path / "resumed").iterdir())) == 1


def test_what_is_recorded_twice_is_written_once(tmp_path: Path) -> None:
    assert _write(tmp_path / "twice", 2, 2) == _write(tmp_path / "once", 2)


def test_a_run_that_ends_before_its_first_epoch_leaves_the_log_alone(tmp_path: Path) -> None:
    before = _write(tmp_path, 2)
    ScalarLog(tmp_path).close()
    assert _scalars(tmp_path) == before


def test_epochs_of_an_earlier_start_keep_their_distance_in_time(tmp_path: Path) -> None:
    _write(tmp_path, 3)
    times = [event.wall_time for event in _events(tmp_path) if event.summary.value]
    assert [round(later - times[0]) for later in (times[3], times[-1])] == [60, 120]

"""alnet segment --table: a row for each mask, and where the table may not be written."""

import asyncio
import csv
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest

from service.commands.interruption import INTERRUPTED
from service.commands.segment_files import write_masks
from service.engine.segmenter import Segmentation
from service.errors import BadParameter
from service.imaging.policy import InputPolicy
from service.store.card import TrainingMasks
from service.store.checkpoint import Checkpoint
from tests.checkpoints import publish_tiny
from tests.commands.segmenting import LIKE_ANYTHING, picture, segment, service_answer


def test_the_table_says_of_each_mask_what_the_service_would(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    broken, table = tmp_path / "broken.png", tmp_path / "tables" / "masks.csv"
    broken.write_bytes(b"no image")
    result = segment(
        published, images / "b.bmp", broken, images / "a.png", "--out", tmp_path / "masks", "--table", table
    )
    assert result.exit_code == 1
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(images / "b.bmp"), str(images / "a.png")]
    served = service_answer(published, (images / "b.bmp").read_bytes())
    assert (rows[0]["width"], rows[0]["height"], rows[0]["area_px"]) == ("130", "100", str(served.area_px))
    assert float(rows[0]["area_fraction"]) == pytest.approx(served.area_px / 13_000, abs=1e-6)
    assert float(rows[0]["expected_iou"]) == pytest.approx(served.expected_iou, abs=1e-4)
    assert (float(rows[0]["threshold"]), rows[0]["warnings"]) == (0.5, "")


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@a.png", "a=1.png"])
def test_no_name_of_an_image_is_a_formula(
    published: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(20, 20).save(tmp_path / name)
    table = tmp_path / "masks.csv"
    assert segment(published, ".", "--out", tmp_path / "masks", "--table", table).exit_code == 0
    with table.open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["image"] == (name if name[0] == "a" else f"./{name}")
    assert Path(row["image"]) == Path(name)


def test_warnings_are_named_and_fail_nothing(images: Path, tmp_path: Path) -> None:
    grid = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    unlike = LIKE_ANYTHING.model_copy(update={"limit": 1e-3})
    unusual = TrainingMasks(least=0.4, most=0.4)
    suspicious = publish_tiny(tmp_path / "store", input=grid, training_images=unlike, training_masks=unusual)
    table = tmp_path / "masks.csv"
    result = segment(suspicious, images / "a.png", "--out", tmp_path, "--table", table)
    assert (result.exit_code, result.stdout) == (0, f"1 of 1 masks in {tmp_path}\n")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [["alnet", str(images / "a.png"), "warning"]] * 2
    assert ("unlike" in lines[0], "covers" in lines[1]) == (True, True)
    assert table.read_text().splitlines()[1].endswith(",unlike_training_images unlike_training_masks")


@pytest.mark.parametrize("taken", ["a.png", "masks/a.png"])
def test_a_table_is_never_written_over_an_image_or_a_mask(published: Checkpoint, tmp_path: Path, taken: str) -> None:
    picture(20, 20).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = segment(published, tmp_path, "--out", tmp_path / "masks", "--table", tmp_path / taken)
    assert isinstance(result.exception, BadParameter)
    assert "--table" in str(result.exception)
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_table_that_cannot_be_written_is_told_before_the_work(published: Checkpoint, tmp_path: Path) -> None:
    picture(20, 20).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    out = tmp_path / "masks"
    result = segment(published, tmp_path / "a.png", "--out", out, "--table", tmp_path / "file" / "table.csv")
    assert isinstance(result.exception, OSError)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no device that is always full")
def test_a_full_disk_is_told_with_the_table_on_it(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    result = segment(published, images / "a.png", "--out", tmp_path / "masks", "--table", "/dev/full")
    assert isinstance(result.exception, OSError), result.output
    assert result.exception.filename == "/dev/full"


def test_a_table_into_a_pipe_has_one_head(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    result = segment(published, images / "a.png", "--out", tmp_path, "--table", f"/dev/fd/{writes}")
    os.close(writes)
    with os.fdopen(reads, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert result.exit_code == 0
    assert [row[0] for row in rows] == ["image", str(images / "a.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf_8_stands_in_the_table_as_it_is(published: Checkpoint, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    picture(20, 20).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(image)
    table = tmp_path / "masks.csv"
    assert segment(published, image, "--out", tmp_path / "masks", "--table", table).exit_code == 0
    assert b"/caf\xe9.png,20,20," in table.read_bytes()


@pytest.fixture
def can_be_interrupted() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and tests of it inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("can_be_interrupted")
@pytest.mark.parametrize(
    ("ended_by", "on_ctrl_c"),
    [
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_IGN),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM in the background"],
)
def test_an_interrupted_call_leaves_the_table_of_the_masks_until_then(
    published: Checkpoint,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended_by: signal.Signals,
    on_ctrl_c: Callable[[int, FrameType | None], object] | signal.Handlers,
) -> None:
    signal.signal(signal.SIGINT, on_ctrl_c)
    begun = list[Sequence[Path]]()

    def interrupted_at_the_second(paths: Sequence[Path], answer: Segmentation) -> None:
        begun.append(paths)
        if len(begun) == 2:
            signal.raise_signal(ended_by)
            time.sleep(0.2)  # by now nobody waits for this mask
        write_masks(paths, answer)

    monkeypatch.setattr("service.commands.segment.write_masks", interrupted_at_the_second)
    monkeypatch.setenv("ALNET_MAX_BATCH_SIZE", "1")  # one image at a time
    out, table = tmp_path / "masks", tmp_path / "masks.csv"
    result = segment(published, images, "--out", out, "--table", table)
    assert (result.exit_code, result.stdout) == (INTERRUPTED, "")
    assert f"interrupted; the masks until then are in {out}, and what they are like in {table}" in result.stderr
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert rows == [str(images / "a.png"), str(images / "b.bmp")]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]


@pytest.mark.usefixtures("can_be_interrupted")
def test_a_call_interrupted_before_the_first_mask_leaves_the_table_of_another(
    published: Checkpoint, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "masks.csv"
    table.write_text("of another call")

    async def interrupted(*_: object) -> Segmentation:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)
        raise AssertionError("it went on")

    monkeypatch.setattr("service.commands.segment._segment_one", interrupted)
    monkeypatch.setenv("ALNET_MAX_BATCH_SIZE", "1")  # one interruption
    assert segment(published, images, "--out", tmp_path / "masks", "--table", table).exit_code == INTERRUPTED
    assert table.read_text() == "of another call"

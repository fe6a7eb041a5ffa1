"""alnet segment: masks on each image's grid, the service's own; what fails is named, the rest goes on."""

import asyncio
import csv
import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from service.cli import app
from service.commands.interruption import INTERRUPTED
from service.commands.segment import Row, _segment_all
from service.commands.segment import _write_masks as written
from service.engine.choosing import Wish, load_engine
from service.engine.device import Device
from service.engine.image_work import Upload
from service.engine.pixel_pool import PixelPool
from service.engine.segmenter import Segmentation
from service.engine.version_maker import join
from service.errors import BadCheckpoint, BadParameter, BadSettings, UnknownModality
from service.imaging.policy import InputPolicy
from service.imaging.statistics import FEATURES
from service.settings import Settings
from service.store.card import TrainingImages, TrainingMasks
from service.store.checkpoint import Checkpoint
from tests.cards import make_card
from tests.checkpoints import publish_tiny
from tests.doubles import FakeEngine, fake_engine_card

LIKE_ANYTHING = TrainingImages(features=FEATURES, mean=(0.0,) * len(FEATURES), scale=(1.0,) * len(FEATURES), limit=1e6)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    grid = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    return publish_tiny(tmp_path_factory.mktemp("store"), input=grid, training_images=LIKE_ANYTHING)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, height, width in (("a.png", 64, 64), ("b.bmp", 100, 130), ("c.JPG", 9, 7), ("d.tif", 200, 30)):
        _picture(height, width).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image either")
    (folder / "deeper.png").mkdir()
    return folder


def _picture(height: int, width: int) -> PillowImage.Image:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PillowImage.fromarray(pixels)


def _segment(published: Checkpoint, *arguments: str | Path, modality: str = "retina") -> Result:
    store = published.folder.parents[1]
    options = ["--modality", modality, "--store", str(store), "--device", "cpu"]
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *options])


def _nowhere(folder: Path) -> Checkpoint:
    """Return a checkpoint of a store that is not there: whoever opens it fails."""
    return Checkpoint(make_card(), folder / "none" / "retina" / "1")


def _served(checkpoint: Checkpoint, image: bytes) -> Segmentation:
    """Return what the service makes of an upload."""

    async def segment() -> Segmentation:
        engine = load_engine(checkpoint, Wish(device="cpu"))
        with PixelPool(1) as pool:
            async with Device("network") as device:
                version = join(engine, Settings.read({}), device=device, pool=pool, max_queued=8)
                async with version.batcher:
                    upload = Upload(image=image, probability=True)
                    return await version.segmenter.segment(upload, arrived=asyncio.get_running_loop().time())

    return asyncio.run(segment())


def _pixels(png: bytes) -> NDArray[np.uint8]:
    with PillowImage.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


def test_each_image_of_a_folder_gets_a_mask_on_its_own_grid(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    result = _segment(published, images, "--out", tmp_path / "new" / "masks")
    assert (result.exit_code, result.stdout) == (0, f"4 of 4 masks in {tmp_path / 'new' / 'masks'}\n")
    found = {path.name: _pixels(path.read_bytes()) for path in (tmp_path / "new" / "masks").iterdir()}
    shapes = {name: mask.shape for name, mask in found.items()}
    assert shapes == {"a.png": (64, 64), "b.png": (100, 130), "c.png": (9, 7), "d.png": (200, 30)}
    assert all(set(np.unique(mask)) <= {0, 255} for mask in found.values())


def test_folders_inside_a_folder_are_counted_once_but_those_that_are_named_or_hold_the_masks(
    published: Checkpoint, tmp_path: Path
) -> None:
    for name in ("one", "other", "named", ".hidden"):
        (tmp_path / name).mkdir()
        _picture(40, 40).save(tmp_path / name / f"{name}.png")
    _picture(40, 40).save(tmp_path / "a.png")
    result = _segment(published, tmp_path, tmp_path / "named", "--out", tmp_path / "masks")
    assert result.stdout == f"2 of 2 masks in {tmp_path / 'masks'}\n"
    assert result.stderr == (
        "alnet: folders inside folders (2) are passed over; name them, too, to segment what is in them: "
        f"{tmp_path / 'one'} and 1 more\n"
    )
    deep = tmp_path / "deep"
    (deep / "only").mkdir(parents=True)
    nothing = _segment(published, deep, "--out", tmp_path / "none")
    assert isinstance(nothing.exception, BadParameter)
    assert str(nothing.exception).startswith(f"no images in {deep}; folders inside folders (1) are passed over")


def test_a_mask_is_the_one_that_the_service_gives(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    result = _segment(published, images / "b.bmp", "--out", tmp_path, "--probability")
    assert result.exit_code == 0
    served = _served(published, (images / "b.bmp").read_bytes())
    assert served.probability_png is not None
    assert np.array_equal(_pixels((tmp_path / "b.png").read_bytes()), _pixels(served.mask_png))
    probability = _pixels((tmp_path / "b.probability.png").read_bytes())
    assert np.array_equal(probability, _pixels(served.probability_png))
    assert len(np.unique(probability)) > 2


def test_every_image_of_a_folder_gets_a_mask_however_many_tiles_they_have(
    published: Checkpoint, tmp_path: Path
) -> None:
    for name in "abcd":  # 144 tiles: a service whose queue is one batch long holds 128
        _picture(320, 320).save(tmp_path / f"{name}.png")
    result = _segment(published, tmp_path, "--out", tmp_path / "masks")
    assert (result.exit_code, result.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.png", "b.png", "c.png", "d.png"}


def test_an_engine_that_breaks_its_contract_gives_no_mask_that_looks_sound(images: Path, tmp_path: Path) -> None:
    engine = FakeEngine(fake_engine_card(), answers_of=(32, 64))
    outputs = {images / "a.png": [tmp_path / "a.png"]}
    rows = dict[Path, Row]()
    asyncio.run(_segment_all(outputs, engine, Settings.read({}), Upload(image=b""), rows))
    assert rows == {}
    assert not (tmp_path / "a.png").exists()


def test_a_threshold_of_ones_own_is_taken(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    assert _segment(published, images / "a.png", "--out", tmp_path, "--threshold", "0").exit_code == 0
    assert _pixels((tmp_path / "a.png").read_bytes()).min() == 255


def test_small_components_that_the_checkpoint_leaves_out_can_be_asked_for(images: Path, tmp_path: Path) -> None:
    strict = publish_tiny(tmp_path / "store", threshold=142.5 / 255, least_component=1.0)  # at which there are specks
    table = tmp_path / "masks.csv"
    told = _segment(strict, images / "a.png", "--out", tmp_path / "main", "--table", table).stdout
    with table.open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    asked = _segment(strict, images / "a.png", "--out", tmp_path / "every", "--all-components").stdout
    main, every = (_pixels((tmp_path / folder / "a.png").read_bytes()) for folder in ("main", "every"))
    assert 0 < np.count_nonzero(main) < np.count_nonzero(every)
    assert not np.any((main > 0) & (every == 0))
    assert int(row["left_out_px"]) == np.count_nonzero(every) - np.count_nonzero(main)
    assert int(row["components_left_out"]) > 0
    assert told.endswith("; small components are left out of 1 (--all-components keeps them)\n")
    assert asked == f"1 of 1 masks in {tmp_path / 'every'}\n"


def test_the_table_says_of_each_mask_what_the_service_would(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    broken, table = tmp_path / "broken.png", tmp_path / "tables" / "masks.csv"
    broken.write_bytes(b"no image")
    result = _segment(
        published, images / "b.bmp", broken, images / "a.png", "--out", tmp_path / "masks", "--table", table
    )
    assert result.exit_code == 1
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(images / "b.bmp"), str(images / "a.png")]
    served = _served(published, (images / "b.bmp").read_bytes())
    assert (rows[0]["width"], rows[0]["height"], rows[0]["area_px"]) == ("130", "100", str(served.area_px))
    assert float(rows[0]["area_fraction"]) == pytest.approx(served.area_px / 13_000, abs=1e-6)
    assert float(rows[0]["expected_iou"]) == pytest.approx(served.expected_iou, abs=1e-4)
    assert (float(rows[0]["threshold"]), rows[0]["warnings"]) == (0.5, "")


def test_warnings_are_named_and_fail_nothing(images: Path, tmp_path: Path) -> None:
    grid = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    unlike = LIKE_ANYTHING.model_copy(update={"limit": 1e-3})
    unusual = TrainingMasks(least=0.4, most=0.4)
    suspicious = publish_tiny(tmp_path / "store", input=grid, training_images=unlike, training_masks=unusual)
    table = tmp_path / "masks.csv"
    result = _segment(suspicious, images / "a.png", "--out", tmp_path, "--table", table)
    assert (result.exit_code, result.stdout) == (0, f"1 of 1 masks in {tmp_path}\n")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [["alnet", str(images / "a.png"), "warning"]] * 2
    assert ("unlike" in lines[0], "covers" in lines[1]) == (True, True)
    assert table.read_text().splitlines()[1].endswith(",unlike_training_images unlike_training_masks")


@pytest.mark.parametrize("taken", ["a.png", "masks/a.png"])
def test_a_table_is_never_written_over_an_image_or_a_mask(published: Checkpoint, tmp_path: Path, taken: str) -> None:
    _picture(20, 20).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = _segment(published, tmp_path, "--out", tmp_path / "masks", "--table", tmp_path / taken)
    assert isinstance(result.exception, BadParameter)
    assert "--table" in str(result.exception)
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_table_that_cannot_be_written_is_told_before_the_work(published: Checkpoint, tmp_path: Path) -> None:
    _picture(20, 20).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    out = tmp_path / "masks"
    result = _segment(published, tmp_path / "a.png", "--out", out, "--table", tmp_path / "file" / "table.csv")
    assert isinstance(result.exception, OSError)
    assert list(out.iterdir()) == []


def test_a_table_into_a_pipe_has_one_head(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    result = _segment(published, images / "a.png", "--out", tmp_path, "--table", f"/dev/fd/{writes}")
    os.close(writes)
    with os.fdopen(reads, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert result.exit_code == 0
    assert [row[0] for row in rows] == ["image", str(images / "a.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf_8_stands_in_the_table_as_it_is(published: Checkpoint, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    _picture(20, 20).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(image)
    table = tmp_path / "masks.csv"
    assert _segment(published, image, "--out", tmp_path / "masks", "--table", table).exit_code == 0
    assert b"/caf\xe9.png,20,20," in table.read_bytes()


def test_a_name_that_would_break_a_line_or_steer_a_terminal_is_told_in_one_line(
    published: Checkpoint, tmp_path: Path
) -> None:
    broken = tmp_path / "two  lines\n\x1b[2J.png"
    broken.write_bytes(b"no image")
    result = _segment(published, broken, "--out", tmp_path / "masks")
    assert result.stderr.startswith(rf"alnet: {tmp_path}/two  lines\n\x1b[2J.png: the bytes are no image")
    assert result.stderr.count("\n") == 1


def test_files_that_fail_are_named_and_the_others_go_on(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    broken, cut = tmp_path / "broken.png", tmp_path / "cut.png"
    broken.write_bytes(b"no image")
    cut.write_bytes((images / "a.png").read_bytes()[:2000])
    result = _segment(published, broken, images / "a.png", cut, images / "c.JPG", "--out", tmp_path / "masks")
    assert (result.exit_code, result.stdout) == (1, f"2 of 4 masks in {tmp_path / 'masks'}\n")
    assert sorted(line.split(": ")[:2] for line in result.stderr.splitlines()) == [
        ["alnet", str(broken)],
        ["alnet", str(cut)],
    ]
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.png", "c.png"}


def test_a_mask_that_cannot_be_written_fails_its_file_alone(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").mkdir()
    result = _segment(published, images / "a.png", images / "c.JPG", "--out", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(
        f"alnet: {images / 'a.png'}: {tmp_path / 'a.png'} cannot be written: Is a directory"
    )
    assert (tmp_path / "c.png").is_file()


def test_a_file_named_twice_is_segmented_once(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    again = images / ".." / images.name / "a.png"
    result = _segment(published, images / "a.png", again, images / "a.png", "--out", tmp_path)
    assert result.stdout.startswith("1 of 1 masks")


def test_images_whose_masks_would_collide_are_refused(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    twin = tmp_path / "a.bmp"
    _picture(5, 5).save(twin)
    result = _segment(published, images, twin, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception).startswith(f"{images / 'a.png'} and {twin} would both give a.png")
    assert not (tmp_path / "masks").exists()


def test_a_probability_map_does_not_collide_with_a_mask(published: Checkpoint, tmp_path: Path) -> None:
    for name in ("a.bmp", "a.probability.bmp"):
        _picture(5, 5).save(tmp_path / name)
    result = _segment(published, tmp_path, "--out", tmp_path / "masks", "--probability")
    assert "would both give a.probability.png" in str(result.exception)


def test_an_image_is_never_written_over_by_its_mask(published: Checkpoint, tmp_path: Path) -> None:
    _picture(5, 5).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = _segment(published, tmp_path, "--out", tmp_path)
    assert isinstance(result.exception, BadParameter)
    assert "would be written over" in str(result.exception)
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_file_in_the_place_of_the_masks_folder_is_refused_before_anything_is_loaded(
    images: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").touch()
    result = _segment(_nowhere(tmp_path), images, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception).startswith(f"--out {tmp_path / 'masks'} is a file")


def test_an_empty_out_is_not_the_current_folder(images: Path, tmp_path: Path) -> None:
    result = _segment(_nowhere(tmp_path), images, "--out", "")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception) == "--out is empty; name a folder"


def test_an_interrupted_call_leaves_the_table_of_the_masks_until_then(
    published: Checkpoint, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[Sequence[Path]]()

    def interrupted_at_the_second(paths: Sequence[Path], answer: Segmentation) -> None:
        begun.append(paths)
        if len(begun) == 2:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)  # by now nobody waits for this mask
        written(paths, answer)

    monkeypatch.setattr("service.commands.segment._write_masks", interrupted_at_the_second)
    monkeypatch.setenv("ALNET_MAX_BATCH_SIZE", "1")  # one image at a time
    out, table = tmp_path / "masks", tmp_path / "masks.csv"
    result = _segment(published, images, "--out", out, "--table", table)
    assert (result.exit_code, result.stdout) == (INTERRUPTED, "")
    assert f"interrupted; the masks until then are in {out}, and what they are like in {table}" in result.stderr
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert rows == [str(images / "a.png"), str(images / "b.bmp")]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]


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
    assert _segment(published, images, "--out", tmp_path / "masks", "--table", table).exit_code == INTERRUPTED
    assert table.read_text() == "of another call"


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_nothing_to_segment_is_an_error(published: Checkpoint, tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    result = _segment(published, tmp_path / missing, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert missing in str(result.exception)


def test_an_unknown_modality_is_refused_with_those_that_exist(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    result = _segment(published, images, "--out", tmp_path / "masks", modality="liver")
    assert isinstance(result.exception, UnknownModality)
    assert "it has: retina" in str(result.exception)
    assert not (tmp_path / "masks").exists()


def test_a_damaged_checkpoint_is_one_error(images: Path, tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path / "store")
    checkpoint.weights_path.write_bytes(b"damaged")
    result = _segment(checkpoint, images, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadCheckpoint)
    assert result.stderr == ""


def test_an_unknown_device_is_refused(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["segment", str(images), "--modality", "retina", "--out", str(tmp_path), "--device", "tpu"]
    )
    assert isinstance(result.exception, BadSettings)


def test_a_page_of_several_is_picked_by_an_option_which_its_refusal_names(
    published: Checkpoint, tmp_path: Path
) -> None:
    pages = [_picture(64, 64), _picture(70, 64), _picture(80, 64)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    refused = _segment(published, tmp_path / "stack.tif", "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "pick one with --frame, from 0 to 2" in refused.stderr
    done = _segment(published, tmp_path / "stack.tif", "--out", tmp_path / "out", "--frame", "1")
    assert done.exit_code == 0, done.stderr
    with PillowImage.open(tmp_path / "out" / "stack.png") as mask:
        assert mask.size == (64, 70)

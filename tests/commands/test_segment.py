"""alnet segment: masks on each image's grid, the service's own; what fails is named, the rest goes on."""

import asyncio
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from typer.testing import CliRunner

from service.cli import app
from service.commands.segment import _segment_all
from service.commands.segment_table import Row
from service.engine.image_work import Upload
from service.errors import BadCheckpoint, BadParameter, BadSettings, UnknownModality
from service.settings import Settings
from service.store.checkpoint import Checkpoint
from tests.checkpoints import publish_tiny
from tests.commands.segmenting import picture, segment, service_answer
from tests.doubles import FakeEngine, fake_engine_card


def _pixels(png: bytes) -> NDArray[np.uint8]:
    with PillowImage.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


def test_each_image_of_a_folder_gets_a_mask_on_its_own_grid(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    result = segment(published, images, "--out", tmp_path / "new" / "masks")
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
        picture(40, 40).save(tmp_path / name / f"{name}.png")
    picture(40, 40).save(tmp_path / "a.png")
    result = segment(published, tmp_path, tmp_path / "named", "--out", tmp_path / "masks")
    assert result.stdout == f"2 of 2 masks in {tmp_path / 'masks'}\n"
    assert result.stderr == (
        "alnet: folders inside folders (2) are passed over; name them, too, to segment what is in them: "
        f"{tmp_path / 'one'} and 1 more\n"
    )
    deep = tmp_path / "deep"
    (deep / "only").mkdir(parents=True)
    nothing = segment(published, deep, "--out", tmp_path / "none")
    assert isinstance(nothing.exception, BadParameter)
    assert str(nothing.exception).startswith(f"no images in {deep}; folders inside folders (1) are passed over")


def test_pictures_of_a_folder_in_formats_that_are_not_read_are_told_and_rarer_endings_of_the_others_found(
    published: Checkpoint, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.DCM", "b.dcm", "c.webp", ".hidden.gif", "notes.txt"):
        (scans / name).write_bytes(b"")
    told = "no images in {}; .dcm files (2) are passed over; save them as PNG; .webp files (1) are passed over"
    nothing = segment(published, scans, "--out", tmp_path / "none")
    assert isinstance(nothing.exception, BadParameter)
    assert str(nothing.exception).startswith(told.format(scans))

    picture(40, 40).save(scans / "d.jfif", format="JPEG")
    picture(40, 40).save(scans / "e.pnm", format="PPM")
    result = segment(published, scans, "--out", tmp_path / "masks")
    assert result.stdout == f"2 of 2 masks in {tmp_path / 'masks'}\n"
    assert result.stderr.splitlines() == [
        "alnet: .dcm files (2) are passed over; save them as PNG",
        "alnet: .webp files (1) are passed over; save them as PNG",
    ]


def test_a_mask_is_the_one_that_the_service_gives(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    result = segment(published, images / "b.bmp", "--out", tmp_path, "--probability")
    assert result.exit_code == 0
    served = service_answer(published, (images / "b.bmp").read_bytes())
    assert served.probability_png is not None
    assert np.array_equal(_pixels((tmp_path / "b.png").read_bytes()), _pixels(served.mask_png))
    probability = _pixels((tmp_path / "b.probability.png").read_bytes())
    assert np.array_equal(probability, _pixels(served.probability_png))
    assert len(np.unique(probability)) > 2


def test_every_image_of_a_folder_gets_a_mask_however_many_tiles_they_have(
    published: Checkpoint, tmp_path: Path
) -> None:
    for name in "abcd":  # 144 tiles: a service whose queue is one batch long holds 128
        picture(320, 320).save(tmp_path / f"{name}.png")
    result = segment(published, tmp_path, "--out", tmp_path / "masks")
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
    assert segment(published, images / "a.png", "--out", tmp_path, "--threshold", "0").exit_code == 0
    assert _pixels((tmp_path / "a.png").read_bytes()).min() == 255


def test_small_components_that_the_checkpoint_leaves_out_can_be_asked_for(images: Path, tmp_path: Path) -> None:
    strict = publish_tiny(tmp_path / "store", threshold=142.5 / 255, least_component=1.0)  # at which there are specks
    table = tmp_path / "masks.csv"
    told = segment(strict, images / "a.png", "--out", tmp_path / "main", "--table", table).stdout
    with table.open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    asked = segment(strict, images / "a.png", "--out", tmp_path / "every", "--all-components").stdout
    main, every = (_pixels((tmp_path / folder / "a.png").read_bytes()) for folder in ("main", "every"))
    assert 0 < np.count_nonzero(main) < np.count_nonzero(every)
    assert not np.any((main > 0) & (every == 0))
    assert int(row["left_out_px"]) == np.count_nonzero(every) - np.count_nonzero(main)
    assert int(row["components_left_out"]) > 0
    assert told.endswith("; small components are left out of 1 (--all-components keeps them)\n")
    assert asked == f"1 of 1 masks in {tmp_path / 'every'}\n"


def test_a_name_that_would_break_a_line_or_steer_a_terminal_is_told_in_one_line(
    published: Checkpoint, tmp_path: Path
) -> None:
    broken = tmp_path / "two  lines\n\x1b[2J.png"
    broken.write_bytes(b"no image")
    result = segment(published, broken, "--out", tmp_path / "masks")
    assert result.stderr.startswith(rf"alnet: {tmp_path}/two  lines\n\x1b[2J.png: the bytes are no image")
    assert result.stderr.count("\n") == 1


def test_files_that_fail_are_named_and_the_others_go_on(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    broken, cut = tmp_path / "broken.png", tmp_path / "cut.png"
    broken.write_bytes(b"no image")
    cut.write_bytes((images / "a.png").read_bytes()[:2000])
    result = segment(published, broken, images / "a.png", cut, images / "c.JPG", "--out", tmp_path / "masks")
    assert (result.exit_code, result.stdout) == (1, f"2 of 4 masks in {tmp_path / 'masks'}\n")
    assert sorted(line.split(": ")[:2] for line in result.stderr.splitlines()) == [
        ["alnet", str(broken)],
        ["alnet", str(cut)],
    ]
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.png", "c.png"}


def test_a_file_that_memory_does_not_hold_is_named_and_the_others_go_on(
    published: Checkpoint, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_bytes(path: Path) -> bytes:
        if path.name == "b.tif":
            raise MemoryError
        with path.open("rb") as file:
            return file.read()

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (tmp_path / "b.tif").touch()
    result = segment(published, tmp_path / "b.tif", images / "a.png", "--out", tmp_path / "masks")
    assert (result.exit_code, result.stdout) == (1, f"1 of 2 masks in {tmp_path / 'masks'}\n")
    assert result.stderr == f"alnet: {tmp_path / 'b.tif'}: there is not enough memory to read it\n"


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_nothing_to_segment_is_an_error(published: Checkpoint, tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    result = segment(published, tmp_path / missing, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert missing in str(result.exception)


def test_an_unknown_modality_is_refused_with_those_that_exist(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    result = segment(published, images, "--out", tmp_path / "masks", modality="liver")
    assert isinstance(result.exception, UnknownModality)
    assert "it has: retina" in str(result.exception)
    assert not (tmp_path / "masks").exists()


def test_a_damaged_checkpoint_is_one_error(images: Path, tmp_path: Path) -> None:
    checkpoint = publish_tiny(tmp_path / "store")
    checkpoint.weights_path.write_bytes(b"damaged")
    result = segment(checkpoint, images, "--out", tmp_path / "masks")
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
    pages = [picture(64, 64), picture(70, 64), picture(80, 64)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    refused = segment(published, tmp_path / "stack.tif", "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "pick one with --frame, from 0 to 2" in refused.stderr
    done = segment(published, tmp_path / "stack.tif", "--out", tmp_path / "out", "--frame", "1")
    assert done.exit_code == 0, done.stderr
    with PillowImage.open(tmp_path / "out" / "stack.png") as mask:
        assert mask.size == (64, 70)

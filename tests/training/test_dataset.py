from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PillowImage

from service.errors import BadDataset
from service.training.dataset import check, load, open_dataset
from tests.training.folders import grey, images_and_masks, mask, picture, slices, write


def test_load_gives_the_pixels_of_the_files(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", picture(1))
    write(tmp_path / "masks" / "a.png", mask(1))
    image, loaded = load(open_dataset(tmp_path).pairs[0])
    np.testing.assert_array_equal(image, picture(1))
    np.testing.assert_array_equal(loaded, mask(1) // 255)
    assert (image.dtype.name, loaded.dtype.name) == ("uint8", "uint8")


def test_load_gives_the_right_page_of_a_volume(tmp_path: Path) -> None:
    write(tmp_path / "train-volume.tif", *(grey(page) for page in range(5)))
    write(tmp_path / "train-labels.tif", *(mask(page) for page in range(5)))
    image, loaded = load(open_dataset(tmp_path).pairs[3])
    np.testing.assert_array_equal(image[..., 0], grey(3))
    np.testing.assert_array_equal(loaded, mask(3) // 255)


def test_load_reads_gzipped_files(tmp_path: Path) -> None:
    write(tmp_path / "stare-images" / "im0001.ppm.gz", picture(1))
    write(tmp_path / "labels-ah" / "im0001.ah.ppm.gz", mask(1))
    image, loaded = load(open_dataset(tmp_path).pairs[0])
    np.testing.assert_array_equal(image, picture(1))
    np.testing.assert_array_equal(loaded, mask(1) // 255)


def test_a_sound_dataset_passes_its_check_also_with_an_empty_mask(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a", "b"]) / "masks" / "b.png", np.zeros((12, 10), np.uint8))
    check(open_dataset(tmp_path), progress=False)


def test_the_check_shows_its_progress_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(open_dataset(images_and_masks(tmp_path, ["a", "b"])), progress=True)
    assert "checking" in capsys.readouterr().err


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a", "b"]) / "masks" / "b.png", mask(1, height=12, width=11))
    with pytest.raises(BadDataset, match=r"masks/b\.png has 11 × 12 pixels, but .*images/b\.png has 10 × 12"):
        check(open_dataset(tmp_path), progress=False)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_images_that_are_turned_and_whose_masks_are_not_are_told_of(tmp_path: Path, kind: str) -> None:
    """Upside down the sizes are the same."""
    for name, turned in (("a", ()), ("b", ("images",)), ("c", ("images", "masks"))):
        for folder, pixels in (("images", picture(1)), ("masks", mask(1))):
            exif = PillowImage.Exif()
            exif[ExifTags.Base.Orientation] = 3 if folder in turned else 1
            file = tmp_path / folder / f"{name}.{kind if folder == 'images' else 'png'}"
            file.parent.mkdir(exist_ok=True)
            PillowImage.fromarray(pixels).save(file, exif=exif)
    dataset = open_dataset(tmp_path)
    assert dataset.cautions == ()
    (caution,) = check(dataset, progress=False).cautions
    assert caution.startswith(f"{tmp_path / 'images' / 'b'}.{kind} are turned upright, as their EXIF orientation asks")
    upright, shown = (load(pair)[1] for pair in dataset.pairs[1:])
    np.testing.assert_array_equal(upright, np.rot90(shown, 2))


def test_a_mask_of_many_values_is_named(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a", "b"]) / "masks" / "b.png", grey(1))
    with pytest.raises(BadDataset, match=r"masks/b\.png is not binary"):
        check(open_dataset(tmp_path), progress=False)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    path = images_and_masks(tmp_path, ["a", "b"]) / kind / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadDataset, match=rf"{kind}/b\.png: "):
        check(open_dataset(tmp_path), progress=False)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_of_several_pages_is_named(tmp_path: Path, kind: str) -> None:
    (images_and_masks(tmp_path, ["a"]) / kind / "a.png").unlink()
    write(tmp_path / kind / "a.tif", mask(1), mask(2))
    with pytest.raises(BadDataset, match=rf"{kind}/a\.tif is not one image but several"):
        check(open_dataset(tmp_path), progress=False)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(images_and_masks(tmp_path, ["a"]))
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(BadDataset, match=r"masks/a\.png cannot be read"):
        load(dataset.pairs[0])


@pytest.mark.parametrize("colour", [0, 255], ids=["black", "white"])
def test_a_mask_may_have_its_shape_in_the_transparency_alone(tmp_path: Path, colour: int) -> None:
    dataset = open_dataset(images_and_masks(tmp_path, ["a"]))
    shape = mask(0)
    write(tmp_path / "masks" / "a.png", np.dstack([np.full((12, 10, 3), colour, np.uint8), shape]))
    check(dataset, progress=False)
    np.testing.assert_array_equal(load(dataset.pairs[0])[1] > 0, shape > 0)


def test_data_without_a_name_are_not_those_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images_and_masks(tmp_path, ["a", "b"]))
    assert len(open_dataset(".").pairs) == 2
    with pytest.raises(BadDataset, match="the folder of the data is empty; name one"):
        open_dataset("")


def test_the_caller_may_say_what_is_a_series(tmp_path: Path) -> None:
    assert open_dataset(images_and_masks(tmp_path / "named", ["x", "y", "z"]), series=True).is_series
    assert not open_dataset(slices(tmp_path / "numbered", 3), series=False).is_series


def test_the_digest_depends_on_the_files_content_alone(tmp_path: Path) -> None:
    for name, suffix in (("one", ".ppm"), ("two", ".ppm.gz")):
        write(tmp_path / name / "images" / f"{name}{suffix}", picture(1))
        write(tmp_path / name / "masks" / f"{name}{suffix}", mask(1))
    one, two = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    assert one.digest == two.digest
    write(tmp_path / "one" / "masks" / "one.ppm", mask(2))
    assert open_dataset(tmp_path / "one").digest != two.digest


def test_the_digest_of_the_pairs_depends_on_names_and_on_which_mask_is_whose(tmp_path: Path) -> None:
    one = open_dataset(images_and_masks(tmp_path / "one", ["a", "b"]))
    assert open_dataset(images_and_masks(tmp_path / "two", ["a", "b"])).pairs_digest == one.pairs_digest
    renamed = open_dataset(images_and_masks(tmp_path / "renamed", ["a", "c"]))
    assert (renamed.digest, renamed.images["c"]) == (one.digest, one.images["b"])
    assert renamed.pairs_digest != one.pairs_digest


def test_pages_of_one_file_are_images_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "train-volume.tif", *(grey(page) for page in range(3)))
    write(tmp_path / "train-labels.tif", *(mask(page) for page in range(3)))
    assert len(set(open_dataset(tmp_path).images.values())) == 3


@pytest.mark.parametrize("kind", ["retina", "cell", "skin"])
def test_drawn_datasets_need_no_folder(kind: str) -> None:
    dataset = open_dataset(f"drawn:{kind}:3")
    assert (dataset.name, dataset.is_series, len(dataset.pairs)) == (f"drawn:{kind}", False, 3)
    check(dataset, progress=False)
    image, loaded = load(dataset.pairs[2])
    assert image.shape == (256, 256, 3)
    assert set(np.unique(loaded)) == {0, 1}
    assert open_dataset(f"drawn:{kind}:3") == dataset


def test_a_drawn_dataset_has_24_images_unless_told() -> None:
    assert len(open_dataset("drawn:skin").pairs) == 24


@pytest.mark.parametrize(
    "spec", ["drawn:", "drawn:lung", "drawn:skin:0", "drawn:skin:x", "drawn:skin:1001", "drawn:skin:2:3"]
)
def test_a_wrong_drawn_dataset_lists_those_there_are(spec: str) -> None:
    with pytest.raises(BadDataset, match="cannot be drawn; there are drawn:retina, drawn:cell, drawn:skin"):
        open_dataset(spec)


@pytest.mark.parametrize(
    ("folder", "name", "count", "is_series"),
    [("stare", "STARE", 20, False), ("isbi2012", "ISBI 2012", 30, True), ("isic2018", "ISIC 2018", 2394, False)],
)
def test_real_data_sets_are_known(real_data: Path, folder: str, name: str, count: int, is_series: bool) -> None:
    dataset = open_dataset(real_data / folder)
    assert (dataset.name, len(dataset.pairs), dataset.is_series) == (name, count, is_series)
    assert open_dataset(real_data / folder).digest == dataset.digest


@pytest.mark.parametrize("folder", ["stare", "isbi2012"])
def test_real_data_sets_pass_their_check(real_data: Path, folder: str) -> None:
    check(open_dataset(real_data / folder), progress=False)

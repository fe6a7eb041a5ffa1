"""`pairs.csv`: folders that are laid out in no way of ours."""

import io
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image as PillowImage

from service.errors import BadDataset
from service.training.dataset import check, load, open_dataset
from service.training.layouts import Layout, read_layout
from service.training.pairs import NoMask
from service.training.split import split
from tests.training.folders import grey, images_and_masks, mask, picture, write


def listed(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pairs.csv").write_text("\n".join([*lines, ""]), encoding=encoding)
    return folder


def drive(folder: Path) -> Path:
    """Lay out two images as DRIVE has them: vessels in GIF beside masks of the field of view."""
    rows = []
    for number in (21, 22):
        write(folder / "training" / "images" / f"{number}_training.tif", picture(number))
        for kind, name in (("1st_manual", "manual1"), ("mask", "training_mask")):
            path = folder / "training" / kind / f"{number}_{name}.gif"
            path.parent.mkdir(exist_ok=True)
            PillowImage.fromarray(mask(number) if kind == "1st_manual" else np.full_like(mask(0), 255)).save(path)
        rows.append(f"training/images/{number}_training.tif,training/1st_manual/{number}_manual1.gif")
    return listed(folder, "image,mask", *rows)


def named(layout: Layout) -> dict[str, tuple[str, str]]:
    return {pair.name: (Path(pair.image.file).name, Path(pair.mask.file).name) for pair in layout.pairs}


def test_images_and_masks_may_lie_and_be_called_as_they_are(tmp_path: Path) -> None:
    dataset = check(open_dataset(drive(tmp_path / "DRIVE")), progress=False)
    assert (dataset.name, dataset.is_series, dataset.cautions) == ("DRIVE", False, ())
    assert [pair.name for pair in dataset.pairs] == ["21_training", "22_training"]
    for number, pair in zip((21, 22), dataset.pairs, strict=True):
        pixels, found = load(pair)
        assert np.array_equal(pixels, picture(number))
        assert np.array_equal(found, mask(number) > 0)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_as_spreadsheets_save_it_is_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    rows = [
        ["Age", " Mask ", "IMAGE", "name"],
        ["41", '"masks/b.png"', "images/b.png", "first"],
        ["", "", "", ""],
        ["17", " masks/a.png", f"{tmp_path}/images/a.png", "", ""],
        ["", "", "", "", "", ""],
    ]
    listed(tmp_path, *(delimiter.join(row) + "\r" for row in rows), encoding=encoding)
    assert named(read_layout(tmp_path)) == {"a": ("a.png", "a.png"), "first": ("b.png", "b.png")}


@pytest.mark.parametrize(
    "lines",
    [
        ['"image", "mask"', '"images/a.png", "masks/b.png"'],
        ["image,mask", "images/a.png,masks/b.png", " , "],
        ["image;mask;age, sex, camera", "images/a.png;masks/b.png;41"],
        ['"age, sex, camera";"Mask";"Image"', "41;masks/b.png;images/a.png"],
    ],
    ids=["blanks before quotes", "cells of blanks", "commas in another column's name", "the same in quotes"],
)
def test_a_table_as_a_person_writes_it_is_read(tmp_path: Path, lines: list[str]) -> None:
    assert named(read_layout(listed(images_and_masks(tmp_path, ["a", "b"]), *lines))) == {"a": ("a.png", "b.png")}


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_accent_may_be_written_otherwise_in_the_table(
    on_disk: Literal["NFC", "NFD"], in_table: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    images_and_masks(tmp_path / unicodedata.normalize(on_disk, "Bonné"), ["é", "b"])
    folder = unicodedata.normalize(in_table, "Bonné")
    for kind in ("images", "masks"):
        written = tmp_path / unicodedata.normalize(on_disk, "Bonné") / kind
        (written / "é.png").rename(written / unicodedata.normalize(on_disk, "é.png"))
    accented = unicodedata.normalize(in_table, "é.png")
    listed(tmp_path, "image,mask", f"{folder}/images/{accented},{folder}/masks/{accented}")
    assert len(read_layout(tmp_path).pairs) == 1


def test_only_what_the_table_names_is_meant_whatever_else_the_folder_holds(tmp_path: Path) -> None:
    listed(images_and_masks(tmp_path, ["a", "b"]), "image,mask", "images/a.png,masks/b.png")
    layout = read_layout(tmp_path)
    assert named(layout) == {"a": ("a.png", "b.png")}
    assert (layout.name, layout.passed_over) == (tmp_path.name, ())


def test_names_are_in_natural_order(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a10", "a9"])
    listed(tmp_path, "image,mask", "images/a10.png,masks/a10.png", "images/a9.png,masks/a9.png")
    assert list(named(read_layout(tmp_path))) == ["a9", "a10"]


def test_volumes_are_a_series_of_their_pages(tmp_path: Path) -> None:
    for name, pages in (("raw", 3), ("more", 2)):
        write(tmp_path / f"{name}.tif", *(grey(page) for page in range(pages)))
        write(tmp_path / f"{name}-membranes.tif", *(mask(page) for page in range(pages)))
    listed(tmp_path, "image,mask", "raw.tif,raw-membranes.tif", "more.tif,more-membranes.tif")
    layout = read_layout(tmp_path)
    assert layout.is_series
    assert list(named(layout)) == ["more-00", "more-01", "raw-00", "raw-01", "raw-02"]
    assert [pair.mask.frame for pair in layout.pairs] == [0, 1, 0, 1, 2]


def test_the_pages_of_a_volume_follow_each_other_whatever_another_is_called(tmp_path: Path) -> None:
    for name in ("a", "a-1"):
        write(tmp_path / f"{name}.tif", *(grey(page) for page in range(3)))
        write(tmp_path / f"{name}-membranes.tif", *(mask(page) for page in range(3)))
    listed(tmp_path, "image,mask", "a-1.tif,a-1-membranes.tif", "a.tif,a-membranes.tif")
    assert list(named(read_layout(tmp_path))) == ["a-00", "a-01", "a-02", "a-1-00", "a-1-01", "a-1-02"]


def test_beside_pictures_a_volume_is_kept_whole_and_so_are_near_duplicates(tmp_path: Path) -> None:
    write(tmp_path / "raw.tif", *(grey(page) for page in range(4)))
    write(tmp_path / "membranes.tif", *(mask(page) for page in range(4)))
    for number in range(8):
        write(tmp_path / f"p{number}.png", picture(number // 2))  # each twice
        write(tmp_path / f"m{number}.png", mask(number))
    rows = [f"p{number}.png,m{number}.png" for number in (0, 2, 4, 6, 1, 3, 5, 7)]
    dataset = open_dataset(listed(tmp_path, "image,mask", "raw.tif,membranes.tif", *rows))
    assert not dataset.is_series
    for seed in range(4):
        parts = split(dataset, fractions=(0.4, 0.3, 0.3), seed=seed)
        of_name = {name: part for part in ("train", "validation", "test") for name in getattr(parts, part)}
        assert len({of_name[f"raw-0{page}"] for page in range(4)}) == 1
        assert all(of_name[f"p{number}"] == of_name[f"p{number + 1}"] for number in range(0, 8, 2))


def test_a_volume_with_the_masks_of_two_people_does_not_train_and_test(tmp_path: Path) -> None:
    write(tmp_path / "raw.tif", *(grey(page) for page in range(12)))
    for seed, person in enumerate(("ah", "vk")):
        write(tmp_path / f"{person}.tif", *(mask(page + 20 * seed) for page in range(12)))
    listed(tmp_path, "image,mask,name", "raw.tif,ah.tif,ah", "raw.tif,vk.tif,vk")
    dataset = open_dataset(tmp_path)
    for fold in (None, (1, 2)):
        with pytest.raises(BadDataset, match=r"ah-\d+ and vk-\d+ are the same slice, and would come into"):
            split(dataset, fractions=(0.6, 0.2, 0.2), seed=0, fold=fold)
    parts = split(open_dataset(tmp_path, series=False), fractions=(0.6, 0.2, 0.2), seed=0)
    pages = [{name[2:] for name in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, pages)) == 12  # each in one part, with both masks


def test_a_volume_and_its_masks_have_the_same_number_of_pages(tmp_path: Path) -> None:
    write(tmp_path / "raw.tif", *(grey(page) for page in range(3)))
    write(tmp_path / "labels.tif", *(mask(page) for page in range(2)))
    with pytest.raises(BadDataset, match=r"raw\.tif has 3 pages, but labels\.tif has 2"):
        read_layout(listed(tmp_path, "image,mask", "raw.tif,labels.tif"))


@pytest.mark.parametrize(("names", "is_series"), [(("1", "2", "3"), True), (("a", "b", "c"), False)])
def test_numbered_grey_images_are_slices_as_in_any_folder(
    tmp_path: Path, names: tuple[str, ...], is_series: bool
) -> None:
    for seed, name in enumerate(names):
        write(tmp_path / "em" / f"{name}.png", grey(seed))
        write(tmp_path / "cells" / f"{name}.png", mask(seed))
    listed(tmp_path, "image,mask", *(f"em/{name}.png,cells/{name}.png" for name in names))
    assert read_layout(tmp_path).is_series == is_series


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_the_mask_of_a_volume_is_one_too(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "raw.tif", *(grey(page) for page in range(3)))
    PillowImage.fromarray(mask(0)).save(tmp_path / f"mask{suffix}")
    listed(tmp_path, "image,mask", f"raw.tif,mask{suffix}")
    with pytest.raises(BadDataset, match=r"raw\.tif has 3 pages, but mask\..* has 1; both must be TIFFs of as many"):
        read_layout(tmp_path)


def test_an_image_that_is_called_tif_and_is_none_is_read_as_in_any_folder(tmp_path: Path) -> None:
    for kind, pixels in (("image", picture(0)), ("mask", mask(0))):
        write(tmp_path / f"{kind}.png", pixels).rename(tmp_path / f"{kind}.tif")
    [pair] = check(open_dataset(listed(tmp_path, "image,mask", "image.tif,mask.tif")), progress=False).pairs
    assert np.array_equal(load(pair)[0], picture(0))


def test_who_gives_the_table_hears_that_its_folder_is_meant(tmp_path: Path) -> None:
    table = listed(images_and_masks(tmp_path, ["a"]), "image,mask", "images/a.png,masks/a.png") / "pairs.csv"
    with pytest.raises(BadDataset, match=rf"is no folder; give the one that it lies in: {tmp_path}$"):
        read_layout(table)


def test_masks_may_be_missing_for_who_needs_none(tmp_path: Path) -> None:
    listed(images_and_masks(tmp_path, ["a", "b"]), "image,mask", "images/a.png,masks/a.png", "images/b.png,")
    with pytest.raises(BadDataset, match=r"pairs\.csv gives .*images/b\.png no mask; name one, or remove its line"):
        read_layout(tmp_path)
    having, lacking = read_layout(tmp_path, needs_masks=False).pairs
    assert (isinstance(having.mask, NoMask), isinstance(lacking.mask, NoMask)) == (False, True)
    listed(tmp_path, "image", "images/a.png")
    with pytest.raises(BadDataset, match=r"pairs\.csv gives no image a mask; name them in a column mask"):
        read_layout(tmp_path)
    assert [pair.name for pair in read_layout(tmp_path, needs_masks=False).pairs] == ["a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,mask", "a,b"], r"pairs\.csv has no column image: its first line is to name the columns, image,mask"),
        ([], "has no column image"),
        (["image,mask,mask", "images/a.png,masks/a.png,masks/b.png"], "has 2 columns mask; call those otherwise"),
        (["image,mask", ""], "names no image; it needs a line for each, below image,mask"),
        (
            ["image,mask", "images/a.png,masks/a.png", "images/c.png,masks/a.png"],
            r"line 3: .*images/c\.png is not there",
        ),
        (["image,mask", "images/a.png,masks"], r"line 2: .*masks is not there; files are named from"),
        (["image,mask", f"images/{'n' * 300}.png,masks/a.png"], r"line 2: .*n\.png cannot be read: File name too long"),
        (["image,mask", ",masks/a.png"], "line 2: there is no image"),
        (["image,mask", "images/a.png,masks/a.png,x"], "line 2: there are more cells than columns"),
        (["image,mask", '"images/a.png'], r"pairs\.csv, line 2: unexpected end of data"),
        (
            ["image,mask", "images/a.png,masks/a.png", "images/a.png,masks/b.png"],
            r"line 3: .*images/a\.png is called a, too; give each another in a column name",
        ),
        (
            ["image,mask,name", f"images/a.png,masks/a.png,{'n' * 252}"],
            r"line 2: the name n+ is too long; give a shorter one in a column name",
        ),
        (["image,mask,name", "images/a.png,masks/a.png,../a"], r"line 2: '\.\./a' can be no file's name"),
        (
            ["image,mask,name", "images/a.png,masks/a.png,a\a"],
            r"line 2: the name 'a\\x07' holds '\\x07', which does not",
        ),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    listed(images_and_masks(tmp_path, ["a", "b"]), *lines)
    with pytest.raises(BadDataset, match=message):
        read_layout(tmp_path)


def test_a_table_that_is_a_link_to_nothing_is_no_leave_to_read_the_folder_otherwise(tmp_path: Path) -> None:
    (images_and_masks(tmp_path, ["a", "b"]) / "pairs.csv").symlink_to("gone.csv")
    with pytest.raises(BadDataset, match=r"pairs\.csv is a link to what is not there: mend it, or remove it"):
        read_layout(tmp_path)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    listed(tmp_path, "image,mask", "rétine.png,m.png", encoding="latin-1")
    with pytest.raises(BadDataset, match=r"pairs\.csv is no UTF-8; save it as CSV UTF-8"):
        read_layout(tmp_path)


def test_who_has_another_layout_hears_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadDataset, match=r"any other: pairs\.csv with a line image,mask"):
        read_layout(tmp_path)


def test_masks_in_gif_lie_in_masks_too(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", picture(0))
    (tmp_path / "masks").mkdir()
    PillowImage.fromarray(mask(0)).save(tmp_path / "masks" / "a.gif")
    [pair] = check(open_dataset(tmp_path), progress=False).pairs
    assert np.array_equal(load(pair)[1], mask(0) > 0)


def test_a_mask_in_gif_may_be_a_shape_on_what_is_transparent(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", picture(0))
    (tmp_path / "masks").mkdir()
    shape = PillowImage.fromarray((mask(0) > 0).astype(np.uint8)).convert("P")
    shape.putpalette([0] * 6)  # both are black
    shape.save(tmp_path / "masks" / "a.gif", transparency=0, optimize=False)
    [pair] = check(open_dataset(tmp_path), progress=False).pairs
    assert np.array_equal(load(pair)[1], mask(0) > 0)


@pytest.mark.parametrize("fault", ["truncated", "animated"])
def test_a_mask_in_gif_that_cannot_be_read_is_named(tmp_path: Path, fault: str) -> None:
    buffer = io.BytesIO()
    first = PillowImage.fromarray(mask(0, height=40, width=40))
    more = {"save_all": True, "append_images": [PillowImage.fromarray(mask(1, height=40, width=40))]}
    first.save(buffer, "GIF", **(more if fault == "animated" else {}))
    content = buffer.getvalue()
    write(tmp_path / "images" / "a.png", picture(0, height=40, width=40))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.gif").write_bytes(content[:-80] if fault == "truncated" else content)
    message = {"truncated": r"a\.gif: the image is truncated", "animated": r"a\.gif is not one image but several"}[
        fault
    ]
    with pytest.raises(BadDataset, match=message):
        check(open_dataset(tmp_path), progress=False)

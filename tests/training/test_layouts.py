import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from service.errors import BadDataset
from service.training.layouts import Layout, read_layout
from tests.training.folders import grey, images_and_masks, mask, picture, slices, write


def names(layout: Layout) -> list[str]:
    return [pair.name for pair in layout.pairs]


@pytest.mark.parametrize("suffix", [".ppm", ".ppm.gz"])
@pytest.mark.parametrize("folders", [("images", "masks"), ("stare-images", "labels-ah"), (".", ".")], ids=str)
def test_stare_takes_the_first_observer_and_ignores_the_second(
    tmp_path: Path, folders: tuple[str, str], suffix: str
) -> None:
    for number in (1, 44):
        write(tmp_path / folders[0] / f"im{number:04}{suffix}", picture(number))
        write(tmp_path / folders[1] / f"im{number:04}.ah{suffix}", mask(number))
        write(tmp_path / folders[1] / f"im{number:04}.vk{suffix}", mask(number))
    write(tmp_path / "elsewhere" / "im0002.png", picture(2))
    layout = read_layout(tmp_path)
    assert (layout.name, names(layout), layout.is_series) == ("STARE", ["im0001", "im0044"], False)
    assert layout.pairs[0].mask.file.endswith(f"im0001.ah{suffix}")
    assert layout.passed_over == ()


def test_two_volumes_are_a_series_of_their_pages(tmp_path: Path) -> None:
    write(tmp_path / "train-volume.tif", *(grey(page) for page in range(12)))
    write(tmp_path / "train-labels.tif", *(mask(page) for page in range(12)))
    write(tmp_path / "test-volume.tif", *(grey(page) for page in range(3)))
    layout = read_layout(tmp_path)
    assert (layout.name, layout.is_series) == ("ISBI 2012", True)
    assert names(layout) == [f"slice-{page:02}" for page in range(12)]
    assert [pair.mask.frame for pair in layout.pairs] == list(range(12))


def test_numbered_grey_images_of_one_size_are_a_series_in_numeric_order(tmp_path: Path) -> None:
    layout = read_layout(slices(tmp_path / "nerve", 11))
    assert (layout.name, layout.is_series) == ("nerve", True)
    assert names(layout) == [str(page) for page in range(11)]


@pytest.mark.parametrize("first", [1, 40])
def test_a_series_may_count_from_any_number(tmp_path: Path, first: int) -> None:
    assert read_layout(slices(tmp_path, 3, first=first)).is_series


def test_a_series_may_have_gaps_of_as_many_slices_as_there_are(tmp_path: Path) -> None:
    slices(slices(tmp_path, 3), 2, first=8)
    layout = read_layout(tmp_path)
    assert (layout.is_series, names(layout)) == (True, ["0", "1", "2", "8", "9"])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".tif"])
def test_grey_slices_stored_as_colour_are_a_series(tmp_path: Path, suffix: str) -> None:
    slices(tmp_path, 4)
    (tmp_path / "images" / "2.png").unlink()
    write(tmp_path / "images" / f"2{suffix}", np.stack([grey(2)] * 3, axis=-1))
    assert read_layout(tmp_path).is_series


def test_thirty_numbered_pages_of_512_are_isbi_where_the_folder_says_so(tmp_path: Path) -> None:
    folder, page = tmp_path / "ISBI-2012", np.zeros((512, 512), np.uint8)
    for number in range(30):
        write(folder / "images" / f"{number}.png", page)
        write(folder / "masks" / f"{number}.png", page)
    assert read_layout(folder).name == "ISBI 2012"
    for kind in ("images", "masks"):
        write(folder / kind / "30.png", page)
    assert read_layout(folder).name == "ISBI-2012"
    for kind in ("images", "masks"):
        (folder / kind / "30.png").unlink()
    assert read_layout(folder.rename(tmp_path / "liver")).name == "liver"


def a_gap_of_more_than_are_there(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "1.png").rename(folder / kind / "6.png")


def one_number_twice(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "1.png").rename(folder / kind / "00.png")


def a_coloured_page(folder: Path) -> None:
    write(folder / "images" / "1.png", picture(1))


def pages_of_a_palette_of_colours(folder: Path) -> None:
    for number in range(3):
        PillowImage.fromarray(picture(number)).quantize(9).save(folder / "images" / f"{number}.png")


def a_page_of_another_size(folder: Path) -> None:
    write(folder / "images" / "1.png", grey(1, height=20))


def only_two_pages(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "2.png").unlink()


NUMBERED = [a_gap_of_more_than_are_there, a_coloured_page, pages_of_a_palette_of_colours, a_page_of_another_size]


@pytest.mark.parametrize("change", [*NUMBERED, one_number_twice, only_two_pages])
def test_numbered_images_are_no_series_with(tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(slices(tmp_path, 3))
    layout = read_layout(tmp_path)
    assert not layout.is_series
    assert layout.is_numbered == (change in NUMBERED)


@pytest.mark.parametrize(
    ("named", "is_numbered"),
    [(["p1", "p2", "p3"], True), (["p1", "q2", "q3"], False), (["p1", "p2", "three"], False), (["1", "2"], False)],
    ids=str,
)
def test_names_that_differ_in_their_number_alone_are_numbered(
    tmp_path: Path, named: list[str], is_numbered: bool
) -> None:
    layout = read_layout(images_and_masks(tmp_path, named))
    assert (layout.is_series, layout.is_numbered) == (False, is_numbered)


@pytest.mark.parametrize(
    "folders",
    [("images", "masks"), ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth")],
    ids=["short", "original"],
)
def test_isic_pairs_by_its_suffix_and_ignores_papers(tmp_path: Path, folders: tuple[str, str]) -> None:
    data = tmp_path / "isic2018"
    for number in (0, 11):
        write(data / folders[0] / f"ISIC_{number:07}.jpg", picture(number))
        write(data / folders[1] / f"ISIC_{number:07}_segmentation.png", mask(number))
    for folder in folders:
        (data / folder / "ATTRIBUTION.txt").write_text("by many")
        (data / folder / "LICENSE.txt").write_text("free")
    layout = read_layout(data)
    assert (layout.name, names(layout)) == ("ISIC 2018", ["ISIC_0000000", "ISIC_0000011"])
    renamed = read_layout(data.rename(tmp_path / "isic2017"))
    assert (renamed.name, names(renamed)) == ("isic2017" if folders[0] == "images" else "ISIC 2018", names(layout))


@pytest.mark.parametrize("ending", ["", "_mask", "-mask", ".mask", "_segmentation", "_Segmentation", "-seg", "_gt"])
def test_a_mask_may_carry_a_word_at_its_end(tmp_path: Path, ending: str) -> None:
    write(tmp_path / "images" / "eye 1.png", picture(1))
    write(tmp_path / "masks" / f"eye 1{ending}.bmp", mask(1))
    assert names(read_layout(tmp_path)) == ["eye 1"]


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".PNG", ".JPG", ".png.gz"]
)
def test_every_image_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "images" / f"a{suffix}", picture(1))
    write(tmp_path / "masks" / "a.pgm", mask(1))
    assert names(read_layout(tmp_path)) == ["a"]


def test_an_image_whose_name_ends_like_a_mask_is_paired_with_its_own(tmp_path: Path) -> None:
    assert names(read_layout(images_and_masks(tmp_path, ["face", "face_mask"]))) == ["face", "face_mask"]


def test_pairs_come_in_natural_order(tmp_path: Path) -> None:
    assert names(read_layout(images_and_masks(tmp_path, ["b10", "b9", "a"]))) == ["a", "b9", "b10"]


def test_digits_of_other_scripts_are_sorted_as_letters(tmp_path: Path) -> None:
    assert names(read_layout(images_and_masks(tmp_path, ["\uff13", "7"]))) == ["7", "\uff13"]


def test_folder_names_may_be_written_large(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a"])
    (tmp_path / "images").rename(tmp_path / "Images")
    (tmp_path / "masks").rename(tmp_path / "MASKS")
    assert names(read_layout(tmp_path)) == ["a"]


def test_other_files_lying_about_are_ignored(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a"])
    for name in ("README.md", "images/Thumbs.db", "images/._a.png", "images/.hidden.png", "masks/.DS_Store"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "images" / "more").mkdir()
    (tmp_path / "images" / "notes.txt").symlink_to("nowhere.txt")
    assert names(read_layout(tmp_path)) == ["a"]


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(BadDataset, match=r"images/b\.png has no mask; add b\.png or b_mask\.png to the masks, or"):
        read_layout(tmp_path)


@pytest.mark.parametrize("other", ["b_lesion.png", "B.png", "b_manual1.png"])
def test_a_mask_that_seems_to_be_meant_is_named_with_what_to_call_it(tmp_path: Path, other: str) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / other)
    with pytest.raises(
        BadDataset, match=rf"masks/{other} is none by its name: call it b\.png, or b_ and one of mask, "
    ):
        read_layout(tmp_path)


def to_nothing(file: Path) -> Path:
    """Put a link that leads nowhere in a file's place."""
    file.unlink()
    file.symlink_to(file.parent / "nowhere.png")
    return file


def test_a_mask_that_is_a_link_to_nothing_is_not_called_missing(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    link = to_nothing(tmp_path / "masks" / "b.png")
    with pytest.raises(BadDataset, match=rf"images/b\.png has no mask; {link} is a link to what is not there"):
        read_layout(tmp_path)


def test_a_pair_of_links_to_nothing_is_not_left_out_unsaid(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    for kind in ("images", "masks"):
        to_nothing(tmp_path / kind / "b.png")
    with pytest.raises(BadDataset, match=r"images/b\.png is a link to what is not there: mend it, or remove it"):
        read_layout(tmp_path)


def test_what_is_passed_over_among_the_images_is_said(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    assert read_layout(tmp_path).passed_over == ()
    for name in ("c.dcm", "d.dcm", "README.md", ".hidden.gif"):
        (tmp_path / "images" / name).touch()
    for folder in ("p1", ".ipynb_checkpoints"):
        write(tmp_path / "images" / folder / "e.png", picture(2))
    subfolder, dicom = read_layout(tmp_path).passed_over
    assert "images/p1 holds images (1) that are passed over" in subfolder
    assert "images holds .dcm files (2) that are passed over" in dicom


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_what_is_not_read_anyway_may_be_called_and_locked_as_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    old, locked = tmp_path / "images" / "old", tmp_path / "images" / "lost+found"
    write(old / os.fsdecode(b"caf\xe9.png"), picture(2))
    locked.mkdir()
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:  # root may list everything
        if folder == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    (line,) = read_layout(tmp_path).passed_over
    assert "old holds images (1) that are passed over" in line


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf_8_is_told_in_characters_that_can_be_shown(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    for kind in ("images", "masks"):
        (tmp_path / kind / "b.png").rename(tmp_path / kind / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(BadDataset, match="no UTF-8: rename it") as caught:
        read_layout(tmp_path)
    assert r"caf\udce9.png" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", [b"lat\xe9n", b"two\nlines"])
def test_a_folder_whose_name_no_card_could_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    images_and_masks(folder, ["a"])
    (tmp_path / "link").symlink_to(folder)
    for given in (folder, tmp_path / "link"):
        with pytest.raises(BadDataset, match=r"is no UTF-8, or does not print; rename it"):
            read_layout(given)


def test_an_accent_may_be_written_otherwise_in_the_name_of_the_mask(tmp_path: Path) -> None:
    one_character, two_characters = "r\u00e9tine", "re\u0301tine"
    write(tmp_path / "images" / f"{two_characters}.png", picture(0))
    write(tmp_path / "masks" / f"{one_character}_mask.png", mask(0))
    assert names(read_layout(tmp_path)) == [two_characters]


def test_what_is_there_in_a_format_that_is_not_read_is_not_called_missing(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a", "b"])
    (tmp_path / "masks" / "b.png").unlink()
    unread = tmp_path / "masks" / "b_mask.npy"
    unread.touch()
    with pytest.raises(BadDataset, match=rf"images/b\.png has no mask; {unread} is in a format that is not read: save"):
        read_layout(tmp_path)
    write(tmp_path / "masks" / "b.png", mask(1))
    (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "b.webp")
    with pytest.raises(BadDataset, match=r"b\.png is a mask without an image; .*images/b\.webp is in a format"):
        read_layout(tmp_path)


def test_a_mask_without_an_image_is_named(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a", "b"]) / "masks" / "c_mask.png", mask(1))
    with pytest.raises(BadDataset, match=r"masks/c_mask\.png is a mask without an image"):
        read_layout(tmp_path)


def test_two_images_of_one_stem_are_named(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a"]) / "images" / "a.jpg", picture(1))
    with pytest.raises(BadDataset, match=r"a\.jpg and a\.png both stand for 'a'"):
        read_layout(tmp_path)


def test_two_masks_of_one_image_are_named(tmp_path: Path) -> None:
    write(images_and_masks(tmp_path, ["a"]) / "masks" / "a_mask.png", mask(1))
    with pytest.raises(BadDataset, match=r"a\.png and a_mask\.png both stand for 'a'"):
        read_layout(tmp_path)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_an_empty_folder_is_named(tmp_path: Path, kind: str) -> None:
    images_and_masks(tmp_path, ["a"])
    (tmp_path / kind / "a.png").unlink()
    first = {"images": ".bmp .jfif", "masks": ".bmp .gif .jfif"}[kind]
    with pytest.raises(BadDataset, match=f"{kind} holds no image; we read {first}"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("inside", "advice"),
    [
        ("scan.dcm", r"images holds \.dcm files \(1\) that are passed over: save them as PNG$"),
        ("p1/scan.png", r"images/p1 holds images \(1\) that are passed over: only .*images itself is read$"),
        ("p1/day/scan.png", r"it holds folders \(1\), and only .*images itself is read: put the images there$"),
    ],
)
def test_what_lies_in_the_place_of_images_is_named_with_advice(inside: str, advice: str, tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a"])
    scan = (tmp_path / "images" / "a.png").rename(tmp_path / "a.png")
    (tmp_path / "images" / inside).parent.mkdir(parents=True, exist_ok=True)
    scan.rename(tmp_path / "images" / inside)
    with pytest.raises(BadDataset, match=rf"images holds no image; we read .*; .*{advice}"):
        read_layout(tmp_path)


def test_volumes_of_different_length_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train-volume.tif", grey(1), grey(2), grey(3))
    write(tmp_path / "train-labels.tif", mask(1), mask(2))
    with pytest.raises(BadDataset, match=r"train-volume\.tif has 3 pages, but train-labels\.tif has 2"):
        read_layout(tmp_path)


def test_a_volume_without_labels_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train-volume.tif", grey(1), grey(2))
    with pytest.raises(BadDataset, match=r"lacks train-labels\.tif beside train-volume\.tif"):
        read_layout(tmp_path)


def test_a_damaged_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-volume.tif").write_bytes(b"II*\0nonsense")
    write(tmp_path / "train-labels.tif", mask(1), mask(2))
    with pytest.raises(BadDataset, match=r"train-volume\.tif"):
        read_layout(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="nowhere is no folder; give a folder"):
        read_layout(tmp_path / "nowhere")


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data.zip").touch()
    with pytest.raises(BadDataset, match=r"data\.zip is no folder; unpack it if it is an archive, and give a folder"):
        read_layout(tmp_path / "data.zip")


def test_one_of_the_two_folders_is_told_from_that_which_holds_both(tmp_path: Path) -> None:
    images_and_masks(tmp_path, ["a"])
    with pytest.raises(BadDataset, match=r"if .*/images is one of the two folders, give that which holds both$"):
        read_layout(tmp_path / "images")


def test_a_folder_of_no_known_layout_lists_those_we_know(tmp_path: Path) -> None:
    write(tmp_path / "photo.png", picture(1))
    with pytest.raises(BadDataset, match=r"(?s)images/NAME\.png.*stare-images.*train-volume\.tif.*ISIC2018"):
        read_layout(tmp_path)


@pytest.mark.parametrize("inside", ["", "images"])
def test_images_alone_are_taken_where_no_masks_are_needed(tmp_path: Path, inside: str) -> None:
    for name in ("eye10.png", "eye9.jpg"):
        write(tmp_path / inside / name, picture(1))
    (tmp_path / inside / "README.md").write_text("two eyes")
    layout = read_layout(tmp_path, needs_masks=False)
    assert [pair.name for pair in layout.pairs] == ["eye9", "eye10"]
    assert (layout.name, layout.is_series) == (tmp_path.name, False)
    with pytest.raises(BadDataset, match="laid out in no way"):
        read_layout(tmp_path)


def test_where_no_masks_are_needed_a_folder_that_has_some_is_read_with_them(tmp_path: Path) -> None:
    folder = images_and_masks(tmp_path, ["a", "b"])
    assert read_layout(folder, needs_masks=False) == read_layout(folder)
    (folder / "masks" / "b.png").unlink()
    with pytest.raises(BadDataset, match=r"b\.png has no mask"):
        read_layout(folder, needs_masks=False)


def test_masks_among_images_are_not_taken_for_images(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1))
    write(tmp_path / "a_mask.png", mask(1))
    with pytest.raises(BadDataset, match=r"a_mask\.png seems to be the mask of a\.png; put images into images/"):
        read_layout(tmp_path, needs_masks=False)


def test_no_images_are_no_data_even_where_no_masks_are_needed(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="or images alone, in the folder itself or in images/"):
        read_layout(tmp_path, needs_masks=False)

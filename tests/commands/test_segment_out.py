"""alnet segment --out: where masks may go, and what is never written over."""

import os
from pathlib import Path

import pytest

from service.errors import BadParameter
from service.store.checkpoint import Checkpoint
from tests.commands.segmenting import nowhere, picture, segment


def test_a_mask_that_cannot_be_written_fails_its_file_alone(
    published: Checkpoint, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").mkdir()
    result = segment(published, images / "a.png", images / "c.JPG", "--out", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(
        f"alnet: {images / 'a.png'}: {tmp_path / 'a.png'} cannot be written: Is a directory"
    )
    assert (tmp_path / "c.png").is_file()


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_whom_the_umask_keeps_out_cannot_read_a_mask(
    published: Checkpoint, images: Path, tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        segment(published, images / "a.png", "--out", tmp_path, "--probability")
    finally:
        os.umask(before)
    masks = [tmp_path / "a.png", tmp_path / "a.probability.png"]
    assert [path.stat().st_mode & 0o777 for path in masks] == [mode, mode]


def test_a_file_named_twice_is_segmented_once(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    again = images / ".." / images.name / "a.png"
    result = segment(published, images / "a.png", again, images / "a.png", "--out", tmp_path)
    assert result.stdout.startswith("1 of 1 masks")


def test_links_of_two_names_to_one_image_have_a_mask_each(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in ("first.png", "second.png"):
        (links / name).symlink_to(images / "a.png")
    result = segment(published, links, links / "first.png", "--out", tmp_path / "masks")
    assert result.stdout.startswith("2 of 2 masks")
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["first.png", "second.png"]


def test_images_whose_masks_would_collide_are_refused(published: Checkpoint, images: Path, tmp_path: Path) -> None:
    twin = tmp_path / "a.bmp"
    picture(5, 5).save(twin)
    result = segment(published, images, twin, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception).startswith(f"{images / 'a.png'} and {twin} would both give a.png")
    assert not (tmp_path / "masks").exists()


def test_a_probability_map_does_not_collide_with_a_mask(published: Checkpoint, tmp_path: Path) -> None:
    for name in ("a.bmp", "a.probability.bmp"):
        picture(5, 5).save(tmp_path / name)
    result = segment(published, tmp_path, "--out", tmp_path / "masks", "--probability")
    assert "would both give a.probability.png" in str(result.exception)


def test_an_image_is_never_written_over_by_its_mask(published: Checkpoint, tmp_path: Path) -> None:
    picture(5, 5).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = segment(published, tmp_path, "--out", tmp_path)
    assert isinstance(result.exception, BadParameter)
    assert "would be written over" in str(result.exception)
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_file_in_the_place_of_the_masks_folder_is_refused_before_anything_is_loaded(
    images: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").touch()
    result = segment(nowhere(tmp_path), images, "--out", tmp_path / "masks")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception).startswith(f"--out {tmp_path / 'masks'} is a file")


def test_an_empty_out_is_not_the_current_folder(images: Path, tmp_path: Path) -> None:
    result = segment(nowhere(tmp_path), images, "--out", "")
    assert isinstance(result.exception, BadParameter)
    assert str(result.exception) == "--out is empty; name a folder"

"""What is sent: the files of a folder as they are, or drawn images in a modality's usual size and format."""

import io
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from service.benchmark.uploads import MEDIA_TYPES, Body, draw_uploads, read_uploads
from service.errors import BadParameter
from service.imaging.file_names import SUFFIXES


@pytest.mark.parametrize(
    ("modality", "file_format", "mode", "size"),
    [
        ("retina", "PNG", "RGB", (700, 605)),
        ("cell", "PNG", "L", (512, 512)),
        ("skin", "JPEG", "RGB", (1022, 767)),
    ],
)
def test_drawn_uploads_are_files_of_the_usual_kind(
    modality: str, file_format: str, mode: str, size: tuple[int, int]
) -> None:
    (body,) = draw_uploads(modality, 1)
    with PillowImage.open(io.BytesIO(body.content)) as image:
        assert (image.format, image.mode, image.size) == (file_format, mode, size)
        assert PillowImage.MIME[file_format] == body.media_type


def test_drawn_uploads_differ_from_each_other_and_are_the_same_each_time() -> None:
    first, second = draw_uploads("cell", 2)
    assert first.content != second.content
    assert draw_uploads("cell", 1) == [first]


def test_a_modality_that_the_code_cannot_draw_needs_a_folder() -> None:
    with pytest.raises(BadParameter, match="retina, cell, skin, none of lung"):
        draw_uploads("lung", 1)


def test_files_are_sent_byte_for_byte_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "c.ppm", "._a.png"):  # macOS puts such beside each file
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "masks.png").mkdir()
    assert read_uploads(tmp_path) == [
        Body(b"a.png", "image/png"),
        Body(b"b.JPG", "image/jpeg"),
        Body(b"c.ppm", "image/x-portable-pixmap"),
    ]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadParameter, match=r"no images; they end in .*\.png"):
        read_uploads(tmp_path)


def test_every_file_that_is_read_has_a_media_type() -> None:
    assert MEDIA_TYPES.keys() >= SUFFIXES

"""A checkpoint's folder: whole, or refused with the file that is at fault."""

import hashlib
import os
from pathlib import Path

import pytest

from service.errors import BadCheckpoint
from service.store.checkpoint import LARGEST_CARD_BYTES, Checkpoint, Contents, Int8Model, sha256
from service.store.publish import publish
from tests.cards import WEIGHTS, make_card, make_quantised


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish(tmp_path, make_card(), WEIGHTS)


def test_a_published_checkpoint_is_read_back(folder: Path) -> None:
    checkpoint = Checkpoint.read(folder)
    assert checkpoint.card == make_card()
    assert checkpoint.folder == folder
    assert checkpoint.weights_path == folder / "weights.safetensors"
    assert checkpoint.read_weights() == WEIGHTS


def test_weights_of_another_digest_are_not_handed_out(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(WEIGHTS + b"!")
    with pytest.raises(BadCheckpoint, match=rf"{folder}: weights\.safetensors has sha256"):
        Checkpoint.read(folder).read_weights()


def test_an_integer_form_of_which_either_file_is_damaged_is_not_handed_out(tmp_path: Path) -> None:
    form = Int8Model(graph=b"graph", constants=b"constants")
    folder = publish(tmp_path, make_card(int8=make_quantised()), Contents(WEIGHTS, form))
    for name in ("int8.xml", "int8.bin", "weights.safetensors"):
        sound = (folder / name).read_bytes()
        (folder / name).write_bytes(sound[:-1] + b"!")
        with pytest.raises(BadCheckpoint, match=rf"{folder}: {name} has sha256"):
            Checkpoint.read(folder).contents()
        (folder / name).unlink()
        with pytest.raises(BadCheckpoint, match=f"{folder}: {name} is missing"):
            Checkpoint.read(folder).contents()
        (folder / name).write_bytes(sound)
    assert Checkpoint.read(folder).contents().int8 == form


def test_an_integer_form_that_the_card_does_not_describe_is_passed_over(folder: Path) -> None:
    (folder / "int8.xml").write_bytes(b"graph")
    assert Checkpoint.read(folder).contents() == Contents(WEIGHTS)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadCheckpoint, match=f"{folder}: {name} is missing"):
        Checkpoint.read(folder).read_weights()


@pytest.mark.parametrize(
    ("name", "size", "most"), [("card.json", 1 << 40, "1 MiB"), ("weights.safetensors", (1 << 30) + 1, "1024 MiB")]
)
def test_a_file_that_no_memory_holds_is_not_read(folder: Path, name: str, size: int, most: str) -> None:
    """It takes no room on the disk: nothing was ever written into it."""
    os.truncate(folder / name, size)
    with pytest.raises(BadCheckpoint, match=f"{folder}: {name} is larger than {most}") as refused:
        Checkpoint.read(folder).read_weights()
    assert not refused.value.may_pass


def test_a_card_may_be_as_large_as_the_largest(folder: Path) -> None:
    content = (folder / "card.json").read_bytes()
    (folder / "card.json").write_bytes(content.ljust(LARGEST_CARD_BYTES))
    assert Checkpoint.read(folder).card == make_card()


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_an_unreadable_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BadCheckpoint, match=f"{folder}: {name} cannot be read") as unreadable:
        Checkpoint.read(folder).read_weights()
    assert unreadable.value.may_pass


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_pipe_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BadCheckpoint, match=rf"{name} cannot be read \(no regular file\)"):
        Checkpoint.read(folder).read_weights()


def test_a_broken_card_is_named_with_its_folder_and_field(folder: Path) -> None:
    card = folder / "card.json"
    card.write_text(card.read_text().replace('"threshold": 0.5', '"threshold": 5'))
    with pytest.raises(BadCheckpoint, match=rf"{folder}: card\.json: field threshold: .*Restore the folder"):
        Checkpoint.read(folder)


@pytest.mark.parametrize("field", ['"format": 2', '"format": 1, "blessed": true'])
def test_nobody_is_told_to_remove_a_card_that_may_be_a_newer_versions(folder: Path, field: str) -> None:
    card = folder / "card.json"
    card.write_text(card.read_text().replace('"format": 1', field))
    with pytest.raises(BadCheckpoint, match=r"card\.json: field (format|blessed): .*: update this one$"):
        Checkpoint.read(folder)


@pytest.mark.parametrize("place", ["retina/2", "cell/1"])
def test_a_card_in_another_ones_folder_is_refused(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    moved = folder.rename(tmp_path / place)
    with pytest.raises(BadCheckpoint, match=r"card\.json is of retina 1"):
        Checkpoint.read(moved)


def test_sha256_is_that_of_the_standard_library() -> None:
    assert sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()

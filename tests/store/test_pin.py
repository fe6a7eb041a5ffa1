"""Pins: written whole, read back, and never mistaken for a version."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import BadCheckpoint
from service.store.model_store import ModelStore
from service.store.pin import read_pin, remove_pin, write_pin
from service.store.publish import publish, publish_next
from tests.cards import WEIGHTS, make_card
from tests.store.syncs import noted_syncs


@pytest.fixture
def store(tmp_path: Path) -> Path:
    publish(tmp_path, make_card(), WEIGHTS)
    return tmp_path


def test_what_was_pinned_last_is_read_back(store: Path) -> None:
    assert read_pin(store, "retina") is None
    write_pin(store, "retina", "7")
    write_pin(store, "retina", "12")
    assert read_pin(store, "retina") == "12"


def test_a_removed_pin_is_gone(store: Path) -> None:
    write_pin(store, "retina", "7")
    assert remove_pin(store, "retina")
    assert not remove_pin(store, "retina")
    assert read_pin(store, "retina") is None


def test_a_pin_is_a_readable_file_and_nothing_else_is_left(store: Path) -> None:
    write_pin(store, "retina", "1")
    assert sorted(path.name for path in (store / "retina").iterdir()) == ["1", "pin"]
    assert (store / "retina" / "pin").stat().st_mode & 0o777 == 0o644
    assert ModelStore(store).versions("retina") == [1]


KILLED = """
import os, signal, sys
from pathlib import Path
from service.store.pin import write_pin
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_pin(Path(sys.argv[1]), "retina", "1")
"""


def drafts(store: Path) -> list[Path]:
    return [path for path in (store / "retina").iterdir() if path.name.startswith(".draft-")]


@pytest.mark.parametrize(
    "change",
    [lambda store: write_pin(store, "retina", "1"), lambda store: publish_next(store, make_card(), WEIGHTS)],
    ids=["pin", "publish"],
)
def test_what_a_killed_pin_leaves_is_cleared_away_after_a_day(store: Path, change: Callable[[Path], object]) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False, cwd=Path(__file__).parents[2])
    [draft] = drafts(store)
    change(store)
    assert drafts(store) == [draft]  # its writer might live
    os.utime(draft, (0, 0))
    change(store)
    assert not drafts(store)


@pytest.mark.parametrize(
    "content", [b"", b"latest\n", b"0", b"1 2", b"../1", b"\xff", b"1" * 1000, b"1" + b" " * 100 + b"2"]
)
def test_a_pin_that_holds_no_version_is_an_error(store: Path, content: bytes) -> None:
    (store / "retina" / "pin").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="retina/pin holds no version"):
        read_pin(store, "retina")


def test_a_pin_that_cannot_be_read_is_an_error(store: Path) -> None:
    (store / "retina" / "pin").mkdir()
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_pin(store, "retina")


def test_a_pin_that_links_to_nothing_is_an_error_until_it_is_written_anew(store: Path) -> None:
    (store / "retina" / "pin").symlink_to("pins/retina")
    with pytest.raises(BadCheckpoint, match="retina/pin links to nothing"):
        read_pin(store, "retina")
    write_pin(store, "retina", "1")
    assert read_pin(store, "retina") == "1"


@pytest.mark.timeout(20)
def test_a_pin_that_is_a_pipe_is_not_waited_for(store: Path) -> None:
    os.mkfifo(store / "retina" / "pin")
    with pytest.raises(BadCheckpoint, match=r"cannot be read \(no regular file\)"):
        read_pin(store, "retina")


def test_a_pin_of_what_is_no_modality_cannot_be_written(store: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_pin(store, "liver", "1")
    assert read_pin(store, "liver") is None
    assert not remove_pin(store, "liver")


def test_what_is_no_folder_has_no_pin(store: Path) -> None:
    (store / "liver").write_text("a file")
    assert read_pin(store, "liver") is None
    assert not remove_pin(store, "liver")


def test_an_empty_folder_in_a_pins_place_is_mended_by_a_pin_and_lifted_like_one(store: Path) -> None:
    (store / "retina" / "pin").mkdir()
    write_pin(store, "retina", "1")
    assert read_pin(store, "retina") == "1"
    remove_pin(store, "retina")
    (store / "retina" / "pin").mkdir()
    assert remove_pin(store, "retina")
    assert read_pin(store, "retina") is None


def test_a_pin_that_is_written_or_removed_stays_so_whatever_comes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = noted_syncs(monkeypatch, store)
    write_pin(store, "retina", "1")
    assert [held for _, held in syncs] == [b"1\n", ["1", "pin"]]
    remove_pin(store, "retina")
    assert syncs[2:] == [(store / "retina", ["1"])]

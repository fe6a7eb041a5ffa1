"""Files that are written whole or not at all."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from service.store.durable import replace, sync_folder, write_new
from tests.store.syncs import noted_syncs


def test_a_new_file_is_written_and_never_over_another(tmp_path: Path) -> None:
    write_new(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_file_is_replaced_by_another_and_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace(path, b"first")
    with path.open("rb") as reader:
        replace(path, b"second")
        assert reader.read() == b"first"
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("眼" * 85)  # 255 bytes
    replace(path, b"content")
    assert path.read_bytes() == b"content"


def test_what_cannot_be_replaced_is_left_as_it_was_without_a_draft(tmp_path: Path) -> None:
    (tmp_path / "a" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace(tmp_path / "a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_are_readable_by_everybody_whatever_their_size(tmp_path: Path) -> None:
    write_new(tmp_path / "a", bytes(1 << 20))
    replace(tmp_path / "b", b"")
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [0o644, 0o644]
    assert (tmp_path / "a").stat().st_size == 1 << 20


def test_a_file_that_others_must_not_read_is_not_written_where_its_mode_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(PermissionError):
        replace(tmp_path / "a", b"secret", mode=0o600)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cannot", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_taken_at_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cannot: int
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(cannot, os.strerror(cannot))

    monkeypatch.setattr(os, "fsync", fail)
    sync_folder(tmp_path)


def test_a_disk_that_fails_to_sync_a_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_a_new_file_is_on_the_disk_itself_as_soon_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = noted_syncs(monkeypatch, tmp_path)
    write_new(tmp_path / "a", b"content")
    assert syncs == [(tmp_path / "a", b"content")]


def test_a_file_is_on_the_disk_before_it_takes_anothers_name_and_its_name_is_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_new(tmp_path / "a", b"old")
    syncs = noted_syncs(monkeypatch, tmp_path)
    replace(tmp_path / "a", b"new")
    [(draft, content), folder] = syncs
    assert (draft.parent, draft.name.startswith(".draft-"), content) == (tmp_path, True, b"new")
    assert folder == (tmp_path, ["a"])


def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir("/dev/fd"))  # noqa: PTH208
    write_new(tmp_path / "a", b"content")
    replace(tmp_path / "a", b"content")
    sync_folder(tmp_path)
    with suppress(IsADirectoryError):
        replace(tmp_path / "folder", b"content")
    assert sorted(os.listdir("/dev/fd")) == before  # noqa: PTH208
